"""A corpus of safetensors files that lie: each is refused, as the miner's fault, with a code, in no time. And then any bytes at all.

The tensors' names, shapes and values are compared with the base by the worker that holds it, in tests/ml.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from gradients.errors import SubmissionRejected
from gradients.files.safetensors_header import MAX_HEADER_BYTES, read_header
from gradients.testing.rejections import check_rejection, rejection_of


def safetensors(header: object, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """A file with this header (bytes as they are, anything else as JSON) and this announced length."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + payload


def tensor(**changes: object) -> dict[str, object]:
    """A header entry for four float32 values, with changes."""
    return {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes


def written(folder: Path, content: bytes, name: str = "model.safetensors") -> Path:
    file = folder / name
    file.write_bytes(content)
    return file


# ---- safetensors: lengths, JSON, entries, spans

VALID = safetensors({"w": tensor()}, b"\0" * 16)
ODD: list[object] = [
    None,
    True,
    False,
    -1,
    2**53,
    2**64,
    10**400,
    1.0,
    1e308,
    "",
    "4",
    "f32",
    [],
    {},
    [[]],
    {"a": 1},
    "\ud800",
]

LENGTHS: dict[str, bytes] = {
    "an empty file": b"",
    "seven bytes": b"\2\0\0\0\0\0\0",
    "a length and no header": (2).to_bytes(8, "little"),
    "a header of no bytes": safetensors(b"", length=0),
    "a header of one byte": safetensors(b"{", length=1),
    "one byte more than the file has": safetensors(b"{}", length=3),
    "one byte less than the header": safetensors({"w": tensor()}, b"\0" * 16, length=len(VALID) - 25),
    "the limit and one byte": safetensors(b"{" + b" " * (MAX_HEADER_BYTES - 1) + b"}"),
    "2**31": safetensors(b"{}", length=2**31),
    "2**32 + 2": safetensors(b"{}", length=2**32 + 2),
    "2**63": safetensors(b"{}", length=2**63),
    "2**64 - 1": safetensors(b"{}", length=2**64 - 1),
    "the length in the other byte order": (2).to_bytes(8, "big") + b"{}",
}
TEXTS: dict[str, bytes] = {
    "no JSON": safetensors(b"hello"),
    "half of it": safetensors(b'{"w":{"dtype":"F32"'),
    "two of it": safetensors(b"{}{}"),
    "a list": safetensors([]),
    "a number": safetensors(b"12"),
    "null": safetensors(b"null"),
    "not UTF-8": safetensors(b'{"\xff":0}'),
    "UTF-16": safetensors('{"w":0}'.encode("utf-16")),
    "UTF-8 with a mark": safetensors(b"\xef\xbb\xbf{}"),
    "a name twice": safetensors(
        b'{"w":' + json.dumps(tensor()).encode() + b',"w":' + json.dumps(tensor()).encode() + b"}", b"\0" * 16
    ),
    "a key twice": safetensors(b'{"w":{"dtype":"F32","dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}', b"\0" * 16),
    "NaN": safetensors(b'{"w":NaN}'),
    "a number of 5,000 digits": safetensors(b'{"w":' + b"9" * 5000 + b"}"),
    "deep lists": safetensors(b'{"w":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "deep objects": safetensors(b'{"w":' * 100_000 + b"0" + b"}" * 100_000),
    "a pickle": b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.",
    "a zip": b"PK\x03\x04" + b"\0" * 60,
    "HTML": b"<!doctype html><title>Not found</title>",
}
ENTRIES: dict[str, bytes] = {
    **{f"{key} {value!r:.20}": safetensors({"w": tensor(**{key: value})}, b"\0" * 16) for key in tensor() for value in ODD},
    **{f"entry {value!r:.20}": safetensors({"w": value}, b"\0" * 16) for value in ODD},
    **{f"dimension {value!r:.20}": safetensors({"w": tensor(shape=[2, value])}, b"\0" * 16) for value in ODD},
    **{f"begin {value!r:.20}": safetensors({"w": tensor(data_offsets=[value, 16])}, b"\0" * 16) for value in ODD if value is not False},
    **{f"end {value!r:.20}": safetensors({"w": tensor(data_offsets=[0, value])}, b"\0" * 16) for value in ODD},
    **{f"no {key}": safetensors({"w": {k: v for k, v in tensor().items() if k != key}}, b"\0" * 16) for key in tensor()},
    "three offsets": safetensors({"w": tensor(data_offsets=[0, 8, 16])}, b"\0" * 16),
    "begin False": safetensors({"w": tensor(data_offsets=[False, 16])}, b"\0" * 16),
    "an unknown dtype": safetensors({"w": tensor(dtype="F4")}, b"\0" * 16),
    "a smaller dtype": safetensors({"w": tensor(dtype="F16")}, b"\0" * 16),
    "a larger dtype": safetensors({"w": tensor(dtype="F64")}, b"\0" * 16),
    "a wrong shape": safetensors({"w": tensor(shape=[2, 3])}, b"\0" * 16),
    "five dimensions": safetensors({"w": tensor(shape=[1, 1, 1, 2, 2])}, b"\0" * 16),
    "a product that overflows 64 bits": safetensors({"w": tensor(shape=[2**32, 2**32])}, b""),
    "a product that wraps to the right size": safetensors({"w": tensor(shape=[2**62, 2**2 + 2**0])}, b"\0" * 16),
    "a name that is half a letter": safetensors(b'{"\\ud800":0}'),
    "a name with line breaks": safetensors({"a\nb\r\x1b[31m": 0}),
    "a name of 100,000 letters": safetensors({"a" * 100_000: 0}),
}  # fmt: skip
SPANS: dict[str, bytes] = {
    "a byte too many": VALID + b"\0",
    "a byte too few": VALID[:-1],
    "no payload": VALID[:-16],
    "a payload and no tensor": safetensors(b"{}", b"\0" * 16),
    "begin after end": safetensors({"w": tensor(data_offsets=[16, 0])}, b"\0" * 16),
    "begin beyond the file": safetensors({"w": tensor(data_offsets=[100, 116])}, b"\0" * 16),
    "the same bytes twice": safetensors({"v": tensor(), "w": tensor()}, b"\0" * 16),
    "overlapping by a byte": safetensors({"v": tensor(), "w": tensor(data_offsets=[15, 31])}, b"\0" * 31),
    "a hole of a byte": safetensors({"v": tensor(), "w": tensor(data_offsets=[17, 33])}, b"\0" * 33),
    "one within the other": safetensors({"v": tensor(), "w": tensor(shape=[1], data_offsets=[4, 8])}, b"\0" * 16),
    "an empty one within another": safetensors(
        {"v": tensor(), "w": tensor(shape=[0], data_offsets=[4, 4])}, b"\0" * 16
    ),
    "an empty one behind the end": safetensors(
        {"v": tensor(), "w": tensor(shape=[0], data_offsets=[99, 99])}, b"\0" * 16
    ),
    "a hole at the beginning": safetensors({"w": tensor(data_offsets=[4, 20])}, b"\0" * 20),
}
FILES = {
    f"{group}: {what}": content
    for group, files in {"length": LENGTHS, "text": TEXTS, "entry": ENTRIES, "span": SPANS}.items()
    for what, content in files.items()
}


@pytest.mark.parametrize("what", FILES)
def test_a_header_that_lies_is_refused(what: str, tmp_path: Path) -> None:
    file = written(tmp_path, FILES[what])

    assert rejection_of(lambda: read_header(file)).code == "header_invalid"


GOOD: dict[str, tuple[bytes, set[str]]] = {
    "one tensor": (VALID, {"w"}),
    "no tensor": (safetensors(b"{}"), set()),
    "metadata": (safetensors({"__metadata__": {"format": "pt"}, "w": tensor()}, b"\0" * 16), {"w"}),
    "padding behind the header": (safetensors(json.dumps({"w": tensor()}).encode() + b"   ", b"\0" * 16), {"w"}),
    "a scalar": (safetensors({"w": tensor(shape=[], data_offsets=[0, 4])}, b"\0" * 4), {"w"}),
    "an empty tensor": (safetensors({"v": tensor(shape=[0], data_offsets=[0, 0]), "w": tensor()}, b"\0" * 16), {"v", "w"}),
    "tensors in any order": (
        safetensors({"w": tensor(data_offsets=[16, 32]), "v": tensor()}, b"\0" * 32),
        {"v", "w"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", GOOD)
def test_a_header_in_order_is_read(what: str, tmp_path: Path) -> None:
    content, names = GOOD[what]

    assert set(read_header(written(tmp_path, content))) == names


# ---- any bytes at all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
ENTRY = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "U8", "BOOL", "F8", ""]) | JSON,
        "shape": st.lists(st.integers(-1, 9), max_size=5) | JSON,
        "data_offsets": st.tuples(st.integers(-1, 64), st.integers(-1, 64)) | JSON,
    }
)


def refused_or_read(content: bytes, folder: Path) -> set[str] | None:
    """The names that were read, or None when the file was refused; any other failure is a bug."""
    file = written(folder, content)
    try:
        return set(read_header(file))
    except SubmissionRejected as error:
        check_rejection(error)
        return None


def read_by_the_library(content: bytes, folder: Path) -> set[str] | None:
    file = written(folder, content, "library.safetensors")
    try:
        with safe_open(file, framework="numpy") as tensors:
            return set(tensors.keys())
    except SafetensorError:
        return None


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_mutation_of_a_header_does_more_than_be_refused(data: st.DataObject, scratch: Path) -> None:
    content = bytearray(GOOD["metadata"][0])
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(begin, min(begin + 8, len(content))))
        content[begin:end] = data.draw(st.binary(max_size=8))

    ours, theirs = refused_or_read(bytes(content), scratch), read_by_the_library(bytes(content), scratch)

    assert ours is None or theirs is None or ours == theirs


@settings(max_examples=150, deadline=None)
@given(header=st.dictionaries(st.text(max_size=8), ENTRY | JSON, max_size=4) | JSON, payload=st.binary(max_size=64))
def test_no_header_does_more_than_be_refused(header: object, payload: bytes, scratch: Path) -> None:
    content = safetensors(header, payload)

    ours, theirs = refused_or_read(content, scratch), read_by_the_library(content, scratch)

    assert ours is None or theirs is None or ours == theirs
