"""The metric of DPO tasks: the DPO loss with the task's beta against the base as reference, the mean over rows (version 2).

The base's log-probabilities are taken once, before any submission is applied, by the same code and in the same batches as each
entrant's. So whoever hands in the base unchanged has exactly ln 2 on every row, and the base itself is not measured again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from gradients.domain.json import JsonObject
from gradients.errors import DatasetInvalid
from gradients.ml.base_model import ANY_LENGTH, LoadedBase, ReadsText
from gradients.ml.batching import measuring_tokens
from gradients.ml.device import choose_device
from gradients.ml.precision import load_to_measure
from gradients.ml.preference import (
    Pair,
    PairLogs,
    PreferenceRow,
    Rewards,
    encode_pairs,
    measure_pairs,
    rewards,
)
from gradients.ml.reading import reads_once
from gradients.ml.submission import applied
from gradients.ml.text import ChatFormat, read_jsonl_of
from gradients.tasks.dpo.spec import DpoParameters
from gradients.tasks.jobs.measuring import Entrant, MeasureJob
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.workers.fingerprints import text_fingerprints
from gradients.tasks.workers.measuring import (
    Measured,
    RowsDone,
    blamed,
    block_by_block,
    measure_entrants,
    rows_to_measure,
)
from gradients.tasks.workers.trial import Rows, refuse_most, try_rows


def measure(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a MeasureJob and return where it was measured."""
    job = MeasureJob.model_validate(arguments)
    base = load_to_measure(job.base_folder, choose_device())
    pairs = read_pairs(base, job.held_out_file, job.parameters)
    apart = reads_once(base.model, base.device)

    def logs_of(some: Sequence[Pair], progress: RowsDone) -> Sequence[PairLogs]:
        return log_probabilities(base, some, apart=apart, progress=progress)

    reference = block_by_block(pairs, job.blocks, logs_of, lambda _: None)
    fingerprints = text_fingerprints(base, [pair.chosen.tokens for pair in pairs], key=job.sketch_key)
    beta = DpoParameters.model_validate(job.parameters).beta

    def measured(entrant: Entrant, progress: RowsDone) -> Measured:
        if entrant.folder is None:
            return of_rewards([rewards(known, known, beta=beta) for known in reference])
        with applied(base.model, entrant.folder) as replaced:
            logs = block_by_block(pairs, job.blocks, logs_of, progress)
            fingerprint = fingerprints.take(replaced)
        # no upper bound: finding rejected answers most unlikely is what is asked for
        if not all(math.isfinite(log) for pair in logs for log in pair):
            raise blamed(entrant, "An answer's log-probability is not finite", code="loss_out_of_bounds")
        by_row = [rewards(*each, beta=beta) for each in zip(logs, reference, strict=True)]
        return of_rewards(by_row)._replace(fingerprint=fingerprint)

    measure_entrants(job, measured, rows=rows_to_measure(job, len(pairs)), report=report)
    return base.device.describe()


def trial(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a TrialJob and return a TrialResult. Rows whose answers are cut to the same tokens prefer nothing, whoever is measured."""
    return try_rows(
        arguments,
        report,
        read=lambda base, file, most: [[pair.chosen, pair.rejected] for pair in _encoded(base, file, most)],
        most=_row_tokens,
        check=_check_differ,
    )


def read_pairs(base: ReadsText, file: Path, parameters: Parameters, *, max_tokens: int = ANY_LENGTH) -> list[Pair]:
    """The rows of a file as tokens, cut to what the task, the base and `max_tokens` allow. Raises DatasetInvalid when no answers differ."""
    most = min(_row_tokens(base, parameters), max_tokens)
    pairs = _encoded(base, file, most)
    if all(pair.chosen.tokens == pair.rejected.tokens for pair in pairs):  # then whoever is measured has ln 2
        raise DatasetInvalid(
            f"In {len(pairs)} of {len(pairs)} rows both answers are the same once they are cut to {most} tokens",
            code="answers_cut_to_equal",
            fix="Raise max_tokens, shorten the answers, or choose a base that reads more",
        )
    return pairs


def _encoded(base: ReadsText, file: Path, most: int) -> list[Pair]:
    rows = read_jsonl_of(PreferenceRow, file)
    return encode_pairs(ChatFormat(base.tokenizer, vocabulary=base.vocabulary), rows, max_tokens=most)


def _row_tokens(base: ReadsText, parameters: Parameters) -> int:
    return min(DpoParameters.model_validate(parameters).max_tokens, base.context)


def _check_differ(rows: Rows) -> None:
    equal = [number for number, (chosen, rejected) in enumerate(rows, start=1) if chosen.tokens == rejected.tokens]
    refuse_most(
        equal,
        len(rows),
        "both answers are the same once they are cut to max_tokens",
        code="answers_cut_to_equal",
        fix="Raise max_tokens, shorten the answers, or choose a base that reads more",
    )


def log_probabilities(
    base: LoadedBase, pairs: Sequence[Pair], *, apart: bool = False, progress: RowsDone = lambda _: None
) -> list[PairLogs]:
    """How likely the base, as it is at this moment, finds the answers of each pair; `apart` as in `measure_pairs`."""
    most = measuring_tokens(base.device, base.vocabulary)
    return measure_pairs(base.model, pairs, device=base.device, max_tokens=most, apart=apart, progress=progress)


def of_rewards(by_row: Sequence[Rewards]) -> Measured:
    """The losses, with accuracy (a tie counts half), margin and rewards beside them, as TRL reports them."""
    extras = {
        "accuracy": statistics.fmean((row.margin > 0) + 0.5 * (row.margin == 0) for row in by_row),
        "margin": statistics.fmean(row.margin for row in by_row),
        "chosen_reward": statistics.fmean(row.chosen for row in by_row),
        "rejected_reward": statistics.fmean(row.rejected for row in by_row),
    }
    return Measured([row.loss for row in by_row], extras)
