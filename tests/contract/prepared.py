"""The sample of a task type, prepared as a validator does it, with jobs that train on it and measure what came of that."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from gradients.domain.json import Json, JsonObject
from gradients.domain.task import TaskRequest
from gradients.execution.functions import resolve
from gradients.tasks.base import TaskType
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.jobs.training import TrainingPlan, TrainJob
from gradients.tasks.preparation import PreparedData, prepare
from gradients.tasks.registry import task_type, validate_request
from gradients.testing.task_samples import SourceRow, TaskSample, sample_of

SALT = b"contract"
SEED = 11
LONGEST_TRAINING_SECONDS = 3600.0  # the plans end by epochs, long before


@dataclass(frozen=True)
class Prepared:
    """A type's sample, prepared once for all tests."""

    kind: TaskType
    sample: TaskSample
    folder: Path
    base: Path
    request: TaskRequest
    data: PreparedData

    def spec(self, rows: Sequence[SourceRow], *, name: str) -> dict[str, Json]:
        file = self.folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return _spec(self.kind, self.sample, file)

    def measure(
        self,
        entrants: Mapping[str, Path | None],
        *,
        results: Path,
        held_out_file: Path | None = None,
        blocks: tuple[tuple[int, ...], ...] = (),
    ) -> dict[str, EntrantResult]:
        job = MeasureJob(
            base_folder=self.base,
            held_out_file=held_out_file or self.data.held_out_file,
            parameters=cast(Parameters, self.request.parameters),
            entrants=tuple(Entrant(id=name, folder=folder) for name, folder in entrants.items()),
            results_folder=results,
            seed=SEED,
            blocks=blocks,
        )
        resolve(self.kind.measure)(job.model_dump(mode="json"), _ignore)
        read = EntrantResult.model_validate_json
        return {name: read((results / f"{name}.json").read_bytes()) for name in entrants}

    def is_better(self, one: EntrantResult, other: EntrantResult) -> bool:
        """By the type's own metric. Both must have been measured."""
        ours, theirs = value_of(one), value_of(other)
        return ours < theirs if self.kind.metric.better == "lower" else ours > theirs

    def job(self, folder: Path, **plan: object) -> TrainJob:
        """A training by the sample's plan with these changes, which leaves its model in `folder`/output."""
        return TrainJob(
            base_folder=self.base,
            train_file=self.data.train_file,
            parameters=cast(Parameters, self.request.parameters),
            plan=TrainingPlan.model_validate({"recipe": "contract", **self.sample.plan, **plan}),
            seed=SEED,
            deadline_unix=time.time() + LONGEST_TRAINING_SECONDS,
            checkpoint_folder=folder / "checkpoints",
            output_folder=folder / "output",
        )

    @functools.cached_property
    def trained(self) -> Path:
        """The model files of one training run."""
        job = self.job(self.folder)
        resolve(self.kind.train)(job.model_dump(mode="json"), _ignore)
        return job.output_folder


def prepare_sample(name: str, folder: Path) -> Prepared:
    """The sample of a task type, in a folder."""
    kind, sample = task_type(name), sample_of(name)
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in sample.rows), encoding="utf-8")
    asked = validate_request(_spec(kind, sample, file))
    data = prepare(kind, asked, salt=SALT, folder=folder / "data")
    return Prepared(kind, sample, folder, sample.write_base(folder / "base"), asked, data)


def value_of(result: EntrantResult) -> float:
    """Of what must have been measured."""
    assert result.value is not None, result.failure_message
    return result.value


def _spec(kind: TaskType, sample: TaskSample, file: Path) -> dict[str, Json]:
    parameters: JsonObject = dict(sample.parameters(file.parent))
    return {"type": kind.name, "base": "tiny", "dataset": str(file), "hours": 0.1, "parameters": parameters}


def _ignore(_: JsonObject) -> None:
    """Progress that nobody watches."""
