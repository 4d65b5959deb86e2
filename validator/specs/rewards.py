"""Rewards tried on a few rows in a worker before a task is posted."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from gradients.client.rewards import LONGEST_ANSWER, MOST_ANSWERS, RewardTrial, RewardVerdict
from gradients.errors import JobFailed, TaskInvalid
from gradients.execution.job import Executor, Job, JobLimits
from gradients.tasks.jobs.judging import JudgeJob
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.registry import all_types, task_type, validate_parameters
from validator.settings import ReadingSettings
from validator.specs.reading import MEBIBYTE, whose

TRIAL_SECONDS = 120.0
MOST_TRIALS = 2  # at the same time


@dataclass(frozen=True, slots=True)
class RewardTrials:
    """Runs a type's `judge`; a worker's limits are those of reading data."""

    executor: Executor
    reading: ReadingSettings = field(default_factory=ReadingSettings)
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_TRIALS))

    async def of(self, asked: RewardTrial) -> RewardVerdict:
        """What the rewards say. Raises TaskInvalid and DatasetInvalid for what a task with them would be refused for."""
        kind = task_type(asked.type)
        if kind.judge is None:
            known = ", ".join(each.name for each in all_types() if each.judge is not None)
            raise TaskInvalid(f"Tasks of type {kind.name} have no rewards", fix=f"Choose from {known}")
        _check_answers(asked)
        parameters = cast(Parameters, validate_parameters(kind, asked.parameters))
        arguments = JudgeJob(parameters=parameters, rows=asked.rows, answers=asked.answers)
        with tempfile.TemporaryDirectory(prefix="gradients-rewards-", ignore_cleanup_errors=True) as place:
            job = Job(
                kind.judge,
                arguments.model_dump(mode="json"),
                Path(place) / "job",
                deadline_seconds=TRIAL_SECONDS,
                packages=(kind.judge.partition(".")[0],),
                limits=JobLimits(
                    memory_bytes=self.reading.memory_mebibytes * MEBIBYTE,
                    cpu_seconds=self.reading.cpu_seconds,
                    open_files=self.reading.open_files,
                ),
            )
            async with self.turns:
                return RewardVerdict.model_validate(await self._run(job))

    async def _run(self, job: Job) -> object:
        try:
            return await self.executor.run(job, report=lambda _: None)
        except JobFailed as error:
            if error.code == "job_deadline":
                said = f"The rewards take more than {TRIAL_SECONDS:.0f} s for these answers"
                raise TaskInvalid(
                    said, code="rewards_too_slow", fix="Give fewer answers, or mend the rewards"
                ) from error
            raise whose(error, self.reading) from error


def _check_answers(asked: RewardTrial) -> None:
    """Raises TaskInvalid for answers that belong to no row, for too many, and for too long ones."""
    if asked.answers is None:
        return
    if len(asked.answers) != len(asked.rows):
        raise TaskInvalid(
            f"There are {len(asked.rows)} rows and {len(asked.answers)} lists of answers", fix="Give one for each row"
        )
    if any(len(each) > MOST_ANSWERS or any(len(text) > LONGEST_ANSWER for text in each) for each in asked.answers):
        most = f"{MOST_ANSWERS} answers of at most {LONGEST_ANSWER:,} characters"
        raise TaskInvalid(f"A row has at most {most}", fix="Give fewer, or shorter ones")
