"""The metric of instruct tasks: cross-entropy on completion tokens, the mean over rows of each row's mean (version 2).

Each row counts the same however long its completion is, as in the paper's evaluation. All entrants are measured on the same rows, in the
same batches, with one base in memory that every submission's weights go into and out of; so a score depends on nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gradients.domain.json import JsonObject
from gradients.ml.base_model import ReadsText
from gradients.ml.device import choose_device
from gradients.ml.precision import load_to_measure
from gradients.ml.text import ChatFormat, Example, read_prompt_rows
from gradients.tasks.instruct.spec import InstructParameters
from gradients.tasks.jobs.measuring import MeasureJob
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.workers.measuring import completions_metric, measure_entrants, rows_to_measure
from gradients.tasks.workers.trial import try_rows


def measure(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a MeasureJob and return where it was measured."""
    job = MeasureJob.model_validate(arguments)
    base = load_to_measure(job.base_folder, choose_device())
    examples = read_examples(base, job.held_out_file, row_tokens(base, job.parameters))
    measured = completions_metric(base, examples, job)
    measure_entrants(job, measured, rows=rows_to_measure(job, len(examples)), report=report)
    return base.device.describe()


def trial(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a TrialJob and return a TrialResult."""
    return try_rows(
        arguments,
        report,
        read=lambda base, file, most: [[example] for example in read_examples(base, file, most)],
        most=row_tokens,
    )


def read_examples(base: ReadsText, file: Path, most: int) -> list[Example]:
    """The rows of a file as tokens, at most so many."""
    return ChatFormat(base.tokenizer, vocabulary=base.vocabulary).encode(read_prompt_rows(file), max_tokens=most)


def row_tokens(base: ReadsText, parameters: Parameters) -> int:
    """How many tokens of a row are read, in training and in measuring."""
    return min(InstructParameters.model_validate(parameters).max_tokens, base.context)
