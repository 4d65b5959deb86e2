"""Reads the header of a safetensors file with limits of our own, before any library sees it.

Covers: headers that are too long, hold too many tensors or lie about offsets; bytes that no tensor accounts for. The library itself
took an 80 MB header with 1.2 million empty tensors. Does not cover: the values (the worker refuses what is not finite).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradients.errors import SubmissionRejected
from gradients.files.strict_json import strict_json

MAX_HEADER_BYTES = 1_000_000
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 4
ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@dataclass(frozen=True, slots=True)
class TensorShape:
    """One tensor as its header tells it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def read_header(file: Path) -> dict[str, TensorShape]:
    """name -> dtype and shape. Raises SubmissionRejected (header_invalid)."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        prefix = stream.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length < 2 or length > min(MAX_HEADER_BYTES, size - 8):
            raise _invalid(file, f"its header cannot be {length:,} bytes long")
        raw = stream.read(length)
    try:
        header = strict_json(raw)
    except ValueError as error:
        raise _invalid(file, f"its header is not valid JSON: {error}") from error
    if not isinstance(header, dict):
        raise _invalid(file, "its header is not an object")
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise _invalid(file, f"it holds {len(header):,} tensors, and at most {MAX_TENSORS:,} are read")
    spans = {name: _span(file, name, entry) for name, entry in header.items()}
    position = 0  # tensors lie end to end and fill the file
    for begin, end in sorted((begin, end) for _, begin, end in spans.values()):
        if begin != position:
            raise _invalid(file, "its tensors overlap or leave holes")
        position = end
    if position != size - 8 - length:
        raise _invalid(file, f"{size - 8 - length - position:,} bytes belong to no tensor")
    return {name: tensor for name, (tensor, _, _) in spans.items()}


def _span(file: Path, name: str, entry: Any) -> tuple[TensorShape, int, int]:  # noqa: ANN401 (JSON from outside)
    """A header entry, checked, with the bytes it claims."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (KeyError, TypeError, ValueError) as error:
        raise _invalid(file, f"the entry of {name[:80]!r} is malformed") from error
    numbers = [*shape, begin, end] if isinstance(shape, list) else [None]
    if (
        not isinstance(dtype, str)
        or dtype not in ITEM_BYTES
        or not all(type(n) is int and 0 <= n < 2**53 for n in numbers)
    ):
        raise _invalid(file, f"{name[:80]!r} has a dtype, shape or offset that cannot be")
    if len(shape) > MAX_DIMENSIONS:
        raise _invalid(file, f"{name[:80]!r} has {len(shape)} dimensions")
    tensor = TensorShape(dtype, tuple(shape))
    if end - begin != tensor.elements * ITEM_BYTES[dtype]:
        raise _invalid(file, f"{name[:80]!r} claims {end - begin:,} bytes for {tensor.elements:,} values of {dtype}")
    return tensor, begin, end


def _invalid(file: Path, why: str) -> SubmissionRejected:
    return SubmissionRejected(f"{file.name} is refused: {why}", code="header_invalid")
