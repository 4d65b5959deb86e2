"""The metric of instruct tasks: cross-entropy on completion tokens, the mean over rows of each row's mean (version 1).

Each row counts the same however long its completion is, as in the paper's evaluation. All entrants are measured on the same rows, in the
same batches, with one base in memory that every submission's weights go into and out of; so a score depends on nobody else's.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from gradients.domain.json import JsonObject
from gradients.errors import GradientsError, SubmissionRejected, ValidatorError
from gradients.ml.base_model import Base, load_base
from gradients.ml.batching import batch_tokens
from gradients.ml.device import choose_device
from gradients.ml.files import write_text
from gradients.ml.losses import RowLoss, measure_rows
from gradients.ml.schedule import Every
from gradients.ml.submission import applied
from gradients.ml.text import ChatFormat, Example, read_rows
from gradients.tasks.instruct.spec import InstructParameters
from gradients.tasks.jobs import Entrant, EntrantResult, MeasureJob, Parameters

_REPORT_SECONDS = 0.5


def measure(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a MeasureJob: leave one EntrantResult file per entrant, each as soon as it is known, and return where it was measured.

    Entrants with a measurement or a failure of their own are left as they are; those that failed by our fault are tried again.
    """
    job = MeasureJob.model_validate(arguments)
    job.results_folder.mkdir(parents=True, exist_ok=True)
    base = load_base(job.base_folder, choose_device())
    examples = ChatFormat(base.tokenizer).encode(
        read_rows(job.heldout_file), max_tokens=row_tokens(base, job.parameters)
    )
    for entrant in job.entrants:
        if not _is_known(_result_file(job, entrant)):
            result = _measure_entrant(base, examples, entrant, _progress(entrant, len(examples), report))
            write_text(_result_file(job, entrant), result.model_dump_json())
    return base.device.describe()


def row_tokens(base: Base, parameters: Parameters) -> int:
    """How many tokens of a row are read, in training and in measuring."""
    return min(InstructParameters.model_validate(parameters).max_tokens, base.context)


def _measure_entrant(
    base: Base, examples: Sequence[Example], entrant: Entrant, progress: Callable[[int], None]
) -> EntrantResult:
    """The measurement, or the failure with whose fault it was: a bad submission's is the miner's, our memory's is ours."""
    started = time.monotonic()
    most = batch_tokens(base.device, base.vocabulary)
    try:
        with applied(base.model, entrant.folder):
            rows = measure_rows(base.model, examples, device=base.device, max_tokens=most, progress=progress)
        _check_losses(entrant, rows, base.vocabulary)
    except GradientsError as error:
        return _failed(entrant, error, started)
    except (MemoryError, RuntimeError) as error:  # torch's out-of-memory and device errors are RuntimeErrors
        return _failed(entrant, ValidatorError(f"Measuring failed: {error}", code="measuring_failed"), started)
    return _measured(entrant, rows, started)


def _check_losses(entrant: Entrant, rows: Sequence[RowLoss], vocabulary: int) -> None:
    """Refuse losses that no honest model has. A base that has them is not the miner's fault."""
    highest = 4 * math.log(vocabulary)
    if all(0 <= row.mean <= highest for row in rows):  # NaN is in no interval
        return
    message = f"A row's loss is not between 0 and {highest:.1f} nats a token"
    error = ValidatorError if entrant.folder is None else SubmissionRejected
    raise error(message, code="loss_out_of_bounds")


def _measured(entrant: Entrant, rows: Sequence[RowLoss], started: float) -> EntrantResult:
    losses = [row.mean for row in rows]
    tokens = sum(row.tokens for row in rows)
    by_token = math.fsum(row.mean * row.tokens for row in rows) / tokens
    return EntrantResult(
        entrant=entrant.id,
        value=statistics.fmean(losses),
        stderr=statistics.stdev(losses) / math.sqrt(len(losses)) if len(losses) > 1 else 0.0,
        losses=tuple(losses),
        extras={"token_weighted_loss": by_token, "perplexity": math.exp(min(by_token, 700.0)), "tokens": float(tokens)},
        seconds=time.monotonic() - started,
    )


def _failed(entrant: Entrant, error: GradientsError, started: float) -> EntrantResult:
    return EntrantResult(
        entrant=entrant.id,
        failure_blame=error.blame.value,
        failure_code=error.code,
        failure_message=str(error),
        seconds=time.monotonic() - started,
    )


def _is_known(file: Path) -> bool:
    """Whether the file holds a result that another run would not change."""
    try:
        result = EntrantResult.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return False
    return result.value is not None or result.failure_blame == "miner"


def _result_file(job: MeasureJob, entrant: Entrant) -> Path:
    return job.results_folder / f"{entrant.id}.json"


def _progress(entrant: Entrant, rows: int, report: Callable[[JsonObject], None]) -> Callable[[int], None]:
    """Tells {entrant, rows_done, rows}, at most twice a second and at the end."""
    reports = Every(_REPORT_SECONDS, time.monotonic)

    def tell(done: int) -> None:
        if reports.due() or done == rows:
            report({"entrant": entrant.id, "rows_done": done, "rows": rows})

    return tell
