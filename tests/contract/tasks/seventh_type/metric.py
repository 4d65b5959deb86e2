"""The metric of continuation tasks: cross-entropy of every token but the first, the mean over rows of each row's mean (version 1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel

from gradients.domain.json import JsonObject
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.device import choose_device
from gradients.ml.text import Example, read_jsonl_of
from gradients.tasks.jobs.measuring import MeasureJob
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.workers.measuring import completions_metric, measure_entrants
from tests.contract.tasks.seventh_type.spec import ContinuationParameters


class TextRow(BaseModel):
    """A row in its normal form."""

    text: str


def measure(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a MeasureJob and return where it was measured."""
    job = MeasureJob.model_validate(arguments)
    base = load_base(job.base_folder, choose_device())
    examples = read_examples(base, job.held_out_file, job.parameters)
    measured = completions_metric(base, examples, job)
    measure_entrants(job, measured, rows=len(examples), report=report)
    return base.device.describe()


def read_examples(base: LoadedBase, file: Path, parameters: Parameters) -> list[Example]:
    """The texts of a file as tokens, of which all but the first count."""
    most = min(ContinuationParameters.model_validate(parameters).max_tokens, base.context)
    texts = [row.text for row in read_jsonl_of(TextRow, file)]
    rows = [tokens[:most] for tokens in base.tokenizer(texts, add_special_tokens=False)["input_ids"]]
    return [Example(tokens, (range(1, len(tokens)),)) for tokens in rows]
