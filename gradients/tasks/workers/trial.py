"""Base, tokenizer, template and rows tried together before a task is offered. A worker function; nothing is trained.

Covers what every miner would otherwise find, and a measurement in its middle: files that cannot be loaded, templates that refuse or drop
turns, answers without an end, tokens that the embedding lacks, rows that `max_tokens` leaves nothing to learn of, and a first pass that
gives no number. The pass is made where the base's files have at most 2 GiB, which are at most four in memory; a larger base is built
without its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from gradients.domain.json import JsonObject
from gradients.errors import DatasetInvalid, ModelUnknown
from gradients.ml.base_model import ANY_LENGTH, TextBase, attention_of, load_base, read_base
from gradients.ml.batching import measuring_tokens
from gradients.ml.device import Device
from gradients.ml.losses import measure_rows
from gradients.ml.text import Example
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.jobs.rows import Lengths, TrialJob, TrialResult

Rows = Sequence[Sequence[Example]]  # of each row, all that is read of it
LARGEST_COMPUTED_BYTES = 2 * 1024**3
_COMPUTED_ROWS = 4
_MOST_WEIGHTS_A_BYTE = 2  # the most narrow formats have two weights in a byte
_HIGHEST_LOSS = 4  # times that of guessing at random; what the metrics refuse
_SHOWN_ROWS = 5


def try_rows(
    arguments: JsonObject,
    report: Callable[[JsonObject], None],
    *,
    read: Callable[[TextBase, Path, int], Rows],
    most: Callable[[TextBase, Parameters], int],
    check: Callable[[Rows], None] = lambda _: None,
    whole_prompts: bool = False,
) -> JsonObject:
    """Do a TrialJob and return a TrialResult. Raises ModelUnknown, TaskInvalid or DatasetInvalid with row numbers.

    Args:
        read: the rows of a file as the type's metric reads them, of at most so many tokens.
        most: how many tokens the metric reads.
        check: what else the type asks of the rows; raises DatasetInvalid.
        whole_prompts: whether a prompt that is cut lacks what its answer needs.
    """
    job = TrialJob.model_validate(arguments)
    base = read_base(job.base_folder)
    try:
        rows = read(base, job.rows_file, most(base, job.parameters))
        check(rows)
        uncut = read(base, job.rows_file, ANY_LENGTH)
        cut = _check_cuts(rows, uncut, whole_prompts=whole_prompts)
    except DatasetInvalid as error:
        if not (error.rows and job.numbers):
            raise
        at = [job.numbers[row - 1] for row in error.rows]
        told = f"{error.message} (of the rows that were tried; in the source: {_named(at)})"
        raise DatasetInvalid(told, rows=at, code=error.code, fix=error.fix) from error
    report({"phase": "read"})
    loss = _first_loss(job.base_folder, base, rows)
    tokens = Lengths.of([max(len(example.tokens) for example in row) for row in uncut])
    return TrialResult(rows=len(rows), cut_rows=len(cut), tokens=tokens, loss=loss).model_dump(mode="json")


def refuse_most(rows: Sequence[int], of: int, problem: str, *, code: str, fix: str) -> None:
    """Raises DatasetInvalid when half of the rows or more have a problem; a few are the customer's own business.

    Args:
        rows: which have it, 1-based.
        of: how many were tried.
    """
    if rows and 2 * len(rows) >= of:
        raise DatasetInvalid(
            f"In {len(rows)} of {of} rows that were tried {problem}: rows {_named(rows)}", rows=rows, code=code, fix=fix
        )


def _check_cuts(rows: Rows, uncut: Rows, *, whole_prompts: bool) -> list[int]:
    """Numbers of the rows that lose tokens. Raises DatasetInvalid where most lose what they are about."""
    cut = [
        number
        for number, (kept, whole) in enumerate(zip(rows, uncut, strict=True), start=1)
        if any(len(one.tokens) < len(other.tokens) for one, other in zip(kept, whole, strict=True))
    ]
    lost = [
        number
        for number, (kept, whole) in enumerate(zip(rows, uncut, strict=True), start=1)
        if any(
            one.spans and one.spans[0].start <= 2 < other.spans[0].start for one, other in zip(kept, whole, strict=True)
        )
    ]
    fix = "Raise max_tokens, shorten the rows, or choose a base that reads more"
    refuse_most(lost, len(rows), "the answer leaves no room for its prompt", code="prompts_cut", fix=fix)
    if whole_prompts:
        refuse_most(cut, len(rows), "the prompt does not fit and loses its beginning", code="prompts_cut", fix=fix)
    return cut


def _first_loss(folder: Path, base: TextBase, rows: Rows) -> float | None:
    """What the base says of the shortest rows, nats a token; None for a base too large to ask. Raises ModelUnknown."""
    stored_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    _check_built(base, stored_bytes)
    if stored_bytes > LARGEST_COMPUTED_BYTES:
        return None
    try:
        loaded = load_base(folder, Device("cpu"))
        shortest = sorted((example for row in rows for example in row), key=lambda example: len(example.tokens))
        asked = [one if one.counted else _all_counted(one) for one in shortest[:_COMPUTED_ROWS]]
        most = measuring_tokens(loaded.device, loaded.vocabulary)
        losses = [row.mean for row in measure_rows(loaded.model, asked, device=loaded.device, max_tokens=most)]
    except (IndexError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise _unusable("computed", error) from error
    if not all(0 <= loss <= _HIGHEST_LOSS * math.log(loaded.vocabulary) for loss in losses):  # NaN is in no interval
        raise ModelUnknown(
            f"The base finds a short row less likely than any guess: {losses} nats a token",
            code="base_unusable",
            fix="Choose another base; its weights are broken",
        )
    return math.fsum(losses) / len(losses)


def _check_built(base: TextBase, stored_bytes: int) -> None:
    """Raises ModelUnknown for a config that makes no model, or one of more weights than its files can hold; takes no memory."""
    try:
        with torch.device("meta"):
            built = AutoModelForCausalLM.from_config(base.config, attn_implementation=attention_of(base.config))
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError, ImportError) as error:
        raise _unusable("built", error) from error
    weights = sum(weight.numel() for weight in built.parameters())
    if weights > _MOST_WEIGHTS_A_BYTE * stored_bytes:
        raise ModelUnknown(
            f"The base's config describes {weights:,} weights, and its files have {stored_bytes:,} bytes",
            code="base_incomplete",
            fix="Choose another base",
        )


def _unusable(how: str, error: Exception) -> ModelUnknown:
    said = " ".join(str(error).split())[:200]
    problem = f"The base cannot be {how}: {type(error).__name__}: {said}"
    return ModelUnknown(problem, code="base_unusable", fix="Choose another base")


def _all_counted(example: Example) -> Example:
    return Example(example.tokens, (range(1, len(example.tokens)),))


def _named(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:_SHOWN_ROWS])) + (
        f" and {len(rows) - _SHOWN_ROWS} more" if len(rows) > _SHOWN_ROWS else ""
    )
