"""The metric of chat tasks: cross-entropy on the assistant's tokens, the mean over rows of each conversation's mean (version 2).

A conversation counts the same however long it is, and within one every token of an answer does. Everything else is as in instruct tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gradients.domain.json import JsonObject
from gradients.ml.base_model import ANY_LENGTH, ReadsText
from gradients.ml.device import choose_device
from gradients.ml.dialogue import DialogueFormat, DialogueRow
from gradients.ml.precision import load_to_measure
from gradients.ml.text import Example, read_jsonl_of
from gradients.tasks.chat.spec import ChatParameters
from gradients.tasks.jobs.measuring import MeasureJob
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.workers.measuring import completions_metric, measure_entrants, rows_to_measure
from gradients.tasks.workers.trial import try_rows


def measure(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a MeasureJob and return where it was measured."""
    job = MeasureJob.model_validate(arguments)
    base = load_to_measure(job.base_folder, choose_device())
    examples = read_examples(base, job.held_out_file, job.parameters)
    measured = completions_metric(base, examples, job)
    measure_entrants(job, measured, rows=rows_to_measure(job, len(examples)), report=report)
    return base.device.describe()


def trial(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a TrialJob and return a TrialResult."""
    return try_rows(
        arguments,
        report,
        read=lambda base, file, most: [[example] for example in _encoded(base, file, most)],
        most=_row_tokens,
    )


def read_examples(
    base: ReadsText, file: Path, parameters: Parameters, *, max_tokens: int = ANY_LENGTH
) -> list[Example]:
    """The conversations of a file as tokens, cut to what the task, the base and `max_tokens` allow."""
    return _encoded(base, file, min(_row_tokens(base, parameters), max_tokens))


def _encoded(base: ReadsText, file: Path, most: int) -> list[Example]:
    rows = read_jsonl_of(DialogueRow, file)
    return DialogueFormat(base.tokenizer, vocabulary=base.vocabulary).encode(rows, max_tokens=most)


def _row_tokens(base: ReadsText, parameters: Parameters) -> int:
    return min(ChatParameters.model_validate(parameters).max_tokens, base.context)
