"""The metric of RAG tasks: cross-entropy on the answer's tokens given the retrieved passages, the mean over rows of each row's mean
(version 2). Where the passages do not hold the answer, the answer is the task's abstention.

Beside it stand numbers that people know, from answers that the model writes itself on at most 48 rows drawn by the job's seed. No score
depends on these.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from gradients.domain.json import JsonObject
from gradients.ml.answering import Answering, losses_and_answers
from gradients.ml.base_model import ReadsText
from gradients.ml.device import choose_device
from gradients.ml.losses import RowLoss
from gradients.ml.precision import load_to_measure
from gradients.ml.reading import reads_once
from gradients.ml.submission import applied
from gradients.ml.text import ChatFormat, Example, PromptRow, read_jsonl_of
from gradients.tasks.jobs.measuring import Entrant, MeasureJob
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.rag.answers import exact_match, f1
from gradients.tasks.rag.parameters import RagParameters
from gradients.tasks.workers.fingerprints import text_fingerprints
from gradients.tasks.workers.measuring import Measured, RowsDone, check_losses, measure_entrants, of_row_losses
from gradients.tasks.workers.trial import try_rows

MOST_WRITTEN = 48
MOST_NEW_TOKENS = 128


class RagRow(PromptRow):
    """One row in its normal form."""

    answer: str
    answerable: bool


class Written(NamedTuple):
    """What a model wrote for a row."""

    row: RagRow
    text: str


def measure(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a MeasureJob and return where it was measured."""
    job = MeasureJob.model_validate(arguments)
    parameters = RagParameters.model_validate(job.parameters)
    base = load_to_measure(job.base_folder, choose_device())
    rows = read_jsonl_of(RagRow, job.held_out_file)
    examples = encoded(base, rows, row_tokens(base, job.parameters))
    fingerprints = text_fingerprints(base, [example.tokens for example in examples], key=job.sketch_key)
    drawn = sorted(random.Random(job.seed).sample(range(len(rows)), min(MOST_WRITTEN, len(rows))))
    how = Answering(
        stop=ChatFormat(base.tokenizer, vocabulary=base.vocabulary).stop_tokens,
        max_new_tokens=min(MOST_NEW_TOKENS, max(examples[i].counted for i in drawn)),  # of the longest right answer
        padded=reads_once(base.model, base.device),
    )

    def measured(entrant: Entrant, progress: RowsDone) -> Measured:
        with applied(base.model, entrant.folder) as replaced:
            losses, texts = losses_and_answers(base, examples, drawn, how, progress=progress)
            fingerprint = fingerprints.take(replaced)
        check_losses(entrant, [loss.mean for loss in losses], vocabulary=base.vocabulary)
        written = [Written(rows[i], texts[i]) for i in drawn]
        by_row, extras, _ = of_row_losses(losses)
        beside = {**by_kind(rows, losses), **as_people_count(written, parameters.abstention)}
        return Measured(by_row, {**extras, **beside}, fingerprint)

    measure_entrants(job, measured, rows=len(examples), report=report)
    return base.device.describe()


def trial(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a TrialJob and return a TrialResult. A prompt that is cut has lost passages, perhaps the one with the answer."""
    return try_rows(
        arguments,
        report,
        read=lambda base, file, most: [[example] for example in encoded(base, read_jsonl_of(RagRow, file), most)],
        most=row_tokens,
        whole_prompts=True,
    )


def encoded(base: ReadsText, rows: Sequence[PromptRow], most: int) -> list[Example]:
    """The rows as tokens, at most so many."""
    return ChatFormat(base.tokenizer, vocabulary=base.vocabulary).encode(rows, max_tokens=most)


def row_tokens(base: ReadsText, parameters: Parameters) -> int:
    """How many tokens of a row are read, in training and in measuring."""
    return min(RagParameters.model_validate(parameters).max_tokens, base.context)


def by_kind(rows: Sequence[RagRow], losses: Sequence[RowLoss]) -> dict[str, float]:
    """The loss of rows that can be answered and of rows that cannot, where there are any."""
    means = {
        name: [loss.mean for row, loss in zip(rows, losses, strict=True) if row.answerable is answerable]
        for name, answerable in (("answerable_loss", True), ("unanswerable_loss", False))
    }
    return {name: statistics.fmean(values) for name, values in means.items() if values}


def as_people_count(written: Sequence[Written], abstention: str) -> dict[str, float]:
    """Exact match and F1 of rows that can be answered, and how often the model abstained exactly when it should; all in [0, 1]."""
    can = [one for one in written if one.row.answerable]
    abstained = [exact_match(one.text, abstention) for one in written]
    due = [did for one, did in zip(written, abstained, strict=True) if not one.row.answerable]
    right = [did is not one.row.answerable for one, did in zip(written, abstained, strict=True)]
    means = {
        "exact_match": [float(exact_match(one.text, one.row.answer)) for one in can],
        "f1": [f1(one.text, one.row.answer) for one in can],
        "abstention_accuracy": list(map(float, right)),
        "abstention_recall": list(map(float, due)),
    }
    counted = {name: math.fsum(values) / len(values) for name, values in means.items() if values}
    return {**counted, "rows_written": float(len(written))}
