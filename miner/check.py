"""`gradients miner check`: what a validator would say of a model, found out with the validator's own screening, worker and rules.

Covers: the repo's files, header, config and tensors; base and model on rows that training has not seen; whether it would count as a
fine-tune, or as a copy of models that are at hand. Does not cover: the commitment and its deadline, and models of other miners.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import BaseModel

from gradients.bases.bases import BaseInfo
from gradients.client.repo_check import Verdict, check_folder
from gradients.domain.evaluation import Placing
from gradients.domain.json import JsonObject
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import Hotkey
from gradients.errors import Blame, JobFailed, ModelUnknown, SubmissionRejected
from gradients.execution.job import Executor, Job
from gradients.scoring.contest import Contest, Entry
from gradients.scoring.rules import SCHEDULE
from gradients.tasks.base import TaskType
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from gradients.tasks.jobs.models import KEEP, KeepJob, Kept
from gradients.tasks.registry import task_type
from miner.checked_task import CheckedTask, Rows, some_rows

MODEL = Hotkey("model")
SECONDS = 3600.0  # of each worker


@dataclass(frozen=True, slots=True)
class Measured:
    """A model's mean over rows."""

    value: float
    stderr: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a validator would say."""

    repo: Verdict
    kind: TaskType
    rows: Rows
    base: Measured
    model: Measured
    gain: Measured  # over the base, paired row by row; positive is better
    placing: Placing  # as the only miner of its task
    copied: Path | None  # which of the models at hand it repeats

    @property
    def counts(self) -> bool:
        """Whether it would be ranked: better than the base beyond noise, and not a copy."""
        return self.placing.rank is not None


@dataclass(frozen=True, slots=True)
class Checker:
    """Runs the workers of one check, in a folder of its own."""

    executor: Executor
    folder: Path
    threads: int = 1

    async def check(
        self,
        model: Path,
        task: CheckedTask,
        base: BaseInfo,
        rows: Rows,
        *,
        against: Sequence[Path] = (),
    ) -> Report:
        """Screen and measure a model, as the only one of its task; those it is compared with count as earlier ones.

        Raises SubmissionRejected as a validator would refuse it, ModelUnknown for another base than the task's, and JobFailed.
        """
        if task.base_digest not in (None, base.digest):
            raise ModelUnknown(f"The base {base.name} is another one here than the task's", code="base_mismatch")
        repo = await check_folder(model, base, self.executor)
        kind = task_type(task.type)
        others = {Hotkey(f"other-{number}"): folder for number, folder in enumerate(against, start=1)}
        found = await self._measure(kind, task, base, rows, {MODEL: model, **others})
        if refused := found[MODEL].failure_message:
            of_miner = found[MODEL].failure_blame is Blame.MINER
            raise (SubmissionRejected if of_miner else JobFailed)(refused, code=found[MODEL].failure_code)
        contest = _contest(kind, task, base, found, order=[*others, MODEL])
        (placing,) = (each for each in SCHEDULE[-1].rules.place(contest) if each.hotkey == MODEL)
        ours = next(entry for entry in contest.entries if entry.hotkey == MODEL)
        gains = contest.gains(ours)
        return Report(
            repo,
            kind,
            rows,
            base=_measured(found[Hotkey(BASE_ENTRANT)]),
            model=_measured(found[MODEL]),
            gain=Measured(float(gains.mean()), float(gains.std(ddof=1)) / len(gains) ** 0.5),
            placing=placing,
            copied=others.get(placing.copy_of) if placing.copy_of else None,
        )

    async def rows(self, file: Path, task: CheckedTask, *, kept_share: float, most: int) -> Rows:
        """Rows of `file` to measure on: of the task's own train rows those that are kept from training, of others at most so many.

        Args:
            kept_share: of train rows, by the recipe.
        """
        target = self.folder / "rows.jsonl"
        if not await asyncio.to_thread(task.was_trained_on, file):
            return await asyncio.to_thread(some_rows, file, target, most=most, seed=task.seed)
        asked = KeepJob(train_file=file, kept_file=target, fraction=kept_share, seed=task.seed, most=most)
        kept = Kept.model_validate(await self._run(KEEP, asked, name="keep", reads=(file,)))
        return Rows(target, kept.rows, kept=True)

    async def _measure(
        self, kind: TaskType, task: CheckedTask, base: BaseInfo, rows: Rows, models: dict[Hotkey, Path]
    ) -> dict[Hotkey, EntrantResult]:
        entrants = (Entrant(id=BASE_ENTRANT), *(Entrant(id=name, folder=folder) for name, folder in models.items()))
        asked = MeasureJob(
            base_folder=base.folder,
            held_out_file=rows.file,
            parameters=task.parameters,
            entrants=entrants,
            results_folder=self.folder / "results",
            seed=task.seed,
            sketch_key=secrets.token_hex(32),
        )
        programs = kind.needs_sandbox(kind.schema.model_validate(task.parameters))
        await self._run(kind.measure, asked, name="measure", reads=asked.reads(), runs_programs=programs)
        found = {
            Hotkey(each.id): EntrantResult.model_validate_json((asked.results_folder / f"{each.id}.json").read_bytes())
            for each in entrants
        }
        for name, result in found.items():
            if name != MODEL and result.failure_message:
                whose = models.get(name, base.name)
                raise JobFailed(f"{whose} could not be measured: {result.failure_message}", code=result.failure_code)
        return found

    async def _run(
        self, function: str, asked: BaseModel, *, name: str, reads: tuple[Path, ...], runs_programs: bool = False
    ) -> JsonObject:
        job = Job(
            function,
            cast(JsonObject, asked.model_dump(mode="json")),
            self.folder / name,
            deadline_seconds=SECONDS,
            threads=self.threads,
            reads=reads,
            writes=(self.folder,),
            accelerator=True,
            runs_programs=runs_programs,
        )
        return await self.executor.run(job, report=lambda _: None)


def checked(
    model: Path,
    task: CheckedTask,
    base: BaseInfo,
    executor: Executor,
    *,
    data: Path,
    against: Sequence[Path] = (),
    kept_share: float,
    rows: int,
    threads: int = 1,
) -> Report:
    """The whole check, in a temporary folder. Raises as `Checker` does."""

    async def check(folder: Path) -> Report:
        checker = Checker(executor, folder, threads)
        measured_on = await checker.rows(data, task, kept_share=kept_share, most=rows)
        return await checker.check(model, task, base, measured_on, against=against)

    with tempfile.TemporaryDirectory(prefix="gradients-check-") as place:
        return asyncio.run(check(Path(place)))


def _contest(
    kind: TaskType, task: CheckedTask, base: BaseInfo, found: dict[Hotkey, EntrantResult], *, order: Sequence[Hotkey]
) -> Contest:
    """The task with the models in the order of their commitments."""
    entries = tuple(
        Entry(name, found[name].per_row, committed_at_block=block, fingerprint=found[name].fingerprint)
        for block, name in enumerate(order)
    )
    return Contest(
        entries,
        found[Hotkey(BASE_ENTRANT)].per_row,
        kind.metric.better,
        base_parameters=base.parameters,
        hours=task.hours,
    )


def _measured(result: EntrantResult) -> Measured:
    return Measured(result.value or 0.0, result.stderr or 0.0)
