"""What the metrics of all task types share: one entrant after the other, each leaving a result file as soon as it is known.

A metric says how one entrant is measured; here is decided whose fault a failure is, what need not be done again, and what is reported.
Only worker processes import this module.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from gradients.domain.evaluation import Fingerprint
from gradients.domain.json import JsonObject
from gradients.errors import Blame, GradientsError, OperatorError, SubmissionRejected
from gradients.files.whole import write_text
from gradients.ml.base_model import LoadedBase
from gradients.ml.batching import measuring_tokens
from gradients.ml.losses import RowLoss
from gradients.ml.openings import measure_behind, shared_opening
from gradients.ml.reading import reads_once
from gradients.ml.schedule import Every
from gradients.ml.submission import applied
from gradients.ml.text import Example
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from gradients.tasks.workers.fingerprints import text_fingerprints

_REPORT_SECONDS = 0.5

RowsDone = Callable[[int], None]  # told how many rows are done
Row = TypeVar("Row")
Value = TypeVar("Value")


class Measured(NamedTuple):
    """One entrant's measurement; its value is the mean over rows."""

    by_row: Sequence[float]  # in the order of the held-out rows
    extras: Mapping[str, float]
    fingerprint: Fingerprint | None = None


def measure_entrants(
    job: MeasureJob,
    measure: Callable[[Entrant, RowsDone], Measured],
    *,
    rows: int,
    report: Callable[[JsonObject], None],
) -> None:
    """Leave one EntrantResult file per entrant.

    Entrants with a measurement or a failure of their own are left as they are; those that failed by our fault are tried again.
    """
    job.results_folder.mkdir(parents=True, exist_ok=True)
    for entrant in job.entrants:
        file = job.results_folder / f"{entrant.id}.json"
        with suppress(FileNotFoundError, ValidationError):
            known = EntrantResult.model_validate_json(file.read_bytes())
            if known.value is not None or known.failure_blame is Blame.MINER:
                continue  # another run would not change it
        result = _result(entrant, measure, _progress(entrant, rows, report))
        write_text(file, result.model_dump_json())


def block_by_block(
    rows: Sequence[Row],
    blocks: Sequence[Sequence[int]],
    measure: Callable[[Sequence[Row], RowsDone], Sequence[Value]],
    progress: RowsDone,
) -> list[Value]:
    """What `measure` finds on each block of rows by itself, one after the other; on all rows together where there are no blocks."""
    if not blocks:
        return list(measure(rows, progress))
    found = list[Value]()
    for block in blocks:
        before = len(found)
        found += measure([rows[place] for place in block], lambda done, before=before: progress(before + done))  # type: ignore[misc]
    return found


def rows_to_measure(job: MeasureJob, rows: int) -> int:
    """How many rows the job asks for of so many."""
    return sum(map(len, job.blocks)) if job.blocks else rows


def completions_metric(
    base: LoadedBase, examples: Sequence[Example], job: MeasureJob
) -> Callable[[Entrant, RowsDone], Measured]:
    """Measures an entrant by its loss on every example's completion, or on those of the job's blocks.

    What it returns raises SubmissionRejected when an entrant cannot be applied or has losses that no honest model has.
    """
    fingerprints = text_fingerprints(base, [example.tokens for example in examples], key=job.sketch_key)
    most = measuring_tokens(base.device, base.vocabulary)
    opening = shared_opening(examples)
    opening = opening if opening and reads_once(base.model, base.device) else []

    def losses(some: Sequence[Example], progress: RowsDone) -> Sequence[RowLoss]:
        return measure_behind(base.model, some, opening, device=base.device, max_tokens=most, progress=progress)

    def measured(entrant: Entrant, progress: RowsDone) -> Measured:
        with applied(base.model, entrant.folder) as replaced:
            rows = block_by_block(examples, job.blocks, losses, progress)
            fingerprint = fingerprints.take(replaced)
        check_losses(entrant, [row.mean for row in rows], vocabulary=base.vocabulary)
        return of_row_losses(rows)._replace(fingerprint=fingerprint)

    return measured


def check_losses(entrant: Entrant, losses: Sequence[float], *, vocabulary: int) -> None:
    """Refuse losses that no honest model has, in nats a token. A base that has them is not the miner's fault."""
    highest = 4 * math.log(vocabulary)
    if all(0 <= loss <= highest for loss in losses):  # NaN is in no interval
        return
    raise blamed(entrant, f"A row's loss is not between 0 and {highest:.1f} nats a token", code="loss_out_of_bounds")


def blamed(entrant: Entrant, problem: str, *, code: str) -> GradientsError:
    """The error for numbers that cannot be: the miner's when the model is a miner's, ours when it is the base."""
    return (OperatorError if entrant.folder is None else SubmissionRejected)(problem, code=code)


def of_row_losses(rows: Sequence[RowLoss]) -> Measured:
    """The losses of completions, with the mean over tokens and its perplexity beside them."""
    tokens = sum(row.tokens for row in rows)
    by_token = math.fsum(row.mean * row.tokens for row in rows) / tokens
    extras = {"token_weighted_loss": by_token, "perplexity": math.exp(min(by_token, 700.0)), "tokens": float(tokens)}
    return Measured([row.mean for row in rows], extras)


def _result(entrant: Entrant, measure: Callable[[Entrant, RowsDone], Measured], progress: RowsDone) -> EntrantResult:
    """The measurement, or the failure with whose fault it was: a bad submission's is the miner's, anything unforeseen is ours."""
    started = time.monotonic()
    try:
        by_row, extras, fingerprint = measure(entrant, progress)
        return EntrantResult(
            entrant=entrant.id,
            value=statistics.fmean(by_row),
            stderr=statistics.stdev(by_row) / math.sqrt(len(by_row)) if len(by_row) > 1 else 0.0,
            per_row=tuple(by_row),
            extras=dict(extras),
            fingerprint=fingerprint,
            seconds=time.monotonic() - started,
        )
    except GradientsError as error:
        return _failed(entrant, error, started)
    except Exception as error:  # whatever it is: out of memory, a flaw of ours; the other entrants go on
        problem = f"Measuring failed: {type(error).__name__}: {error}"
        return _failed(entrant, OperatorError(problem, code="measuring_failed"), started)


def _failed(entrant: Entrant, error: GradientsError, started: float) -> EntrantResult:
    return EntrantResult(
        entrant=entrant.id,
        failure_blame=error.blame,
        failure_code=error.code,
        failure_message=str(error),
        seconds=time.monotonic() - started,
    )


def _progress(entrant: Entrant, rows: int, report: Callable[[JsonObject], None]) -> RowsDone:
    """Tells {entrant, rows_done, rows}, at most twice a second and at the end."""
    reports = Every(_REPORT_SECONDS, time.monotonic)

    def tell(done: int) -> None:
        if reports.due() or done == rows:
            report({"entrant": entrant.id, "rows_done": done, "rows": rows})

    return tell
