"""What a spec will take, before it is posted: its rows and tokens counted, a few steps of its base measured, the hours computed."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from gradients.bases.bases import BaseInfo, BaseModels
from gradients.client.models import Estimate, MeasuredSpeed, RowsHours
from gradients.datasets.access import Access
from gradients.datasets.rows import Numbered, Row
from gradients.datasets.splits import check_distinct
from gradients.domain.json import Json, canonical
from gradients.domain.task import TaskRequest
from gradients.errors import JobFailed
from gradients.execution.job import Executor, Job
from gradients.log import get_logger
from gradients.tasks.base import TaskType
from gradients.tasks.hours import Workload, budget, hours_by_rows
from gradients.tasks.jobs import MEASURE_THROUGHPUT, Throughput, ThroughputJob, TrialResult
from gradients.tasks.preparation import rows_of
from gradients.tasks.registry import LONGEST_REQUEST_HOURS, check_family, task_type, validate_request
from validator.settings import EstimateSettings
from validator.trials import try_base

SAMPLE_ROWS = 256
MOST_READERS = 8  # specs whose sources are read at the same time
LONGEST_TEXT = 100_000  # characters of one row in the sample
UNSALTED = bytes(32)  # for choices that an estimate need not keep secret

log = get_logger("estimates")


@dataclass(frozen=True, slots=True)
class Estimates:
    """Reads the rows of several specs side by side, and measures one at a time: each measurement has a model in memory."""

    bases: BaseModels
    executor: Executor
    access: Access
    settings: EstimateSettings
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    readers: ThreadPoolExecutor = field(  # its own: a slow source must not hold up the daemon
        default_factory=lambda: ThreadPoolExecutor(MOST_READERS, thread_name_prefix="estimate")
    )

    async def of(self, spec: Mapping[str, Json]) -> Estimate:
        """Rows, tokens, weights, speed and hours of a spec; its own hours play no part. Raises CustomerError when it cannot be run.

        Rows that nearly repeat each other are found when the task is prepared only.
        """
        request = validate_request({**spec, "hours": LONGEST_REQUEST_HOURS})
        kind = task_type(request.type)
        base, found_rows = await asyncio.get_running_loop().run_in_executor(self.readers, self._read, kind, request)
        rows = [numbered.row for numbered in found_rows]
        async with self.turn:
            tried = await self._tried(request, base, found_rows)
        speed: Throughput | None = None
        if kind.effort.goes_by_tokens:
            async with self.turn:
                speed = await self._throughput(request, base, rows)
        work = Workload(
            effort=kind.effort,
            rows=len(rows),
            parameters=base.parameters,
            tokens_per_row=speed.tokens_per_row if speed else None,
            tokens_per_second=speed.tokens_per_second if speed else None,
        )
        found = budget(work, reference=self.settings.reference)
        return Estimate(
            type=request.type,
            base=request.base,
            rows=work.rows,
            tokens=work.tokens if found.tokens_per_second else None,
            parameters=work.parameters,
            gpus=found.gpus,
            tokens_per_second=found.tokens_per_second,
            measured=MeasuredSpeed(**dict(speed)) if speed else None,
            hours=found.hours,
            hours_by_rows=RowsHours(**hours_by_rows(work.rows, draws_images=kind.base_family == "image")._asdict()),
            tried_rows=tried.rows if tried else 0,
            cut_rows=tried.cut_rows if tried else 0,
        )

    def _read(self, kind: TaskType, request: TaskRequest) -> tuple[BaseInfo, Sequence[Numbered]]:
        """The base and the rows; what costs least is checked first. Blocking, for as long as the sources take."""
        check_family(kind, request.base, self.bases.look(request.base))
        cleaned = rows_of(kind, request, salt=UNSALTED, access=self.access)
        check_distinct(len(cleaned.rows), kind.split_sizes, removed=cleaned.removed)
        return self.bases.resolve(request.base), cleaned.rows

    async def _tried(self, request: TaskRequest, base: BaseInfo, rows: Sequence[Numbered]) -> TrialResult | None:
        """What a trial found; None where none can be made here. Raises CustomerError for what cannot be used."""
        with tempfile.TemporaryDirectory(prefix="gradients-trial-") as folder:
            try:
                return await try_base(
                    self.executor,
                    request,
                    base,
                    lambda: (canonical(numbered.row).decode() for numbered in rows),
                    folder=Path(folder),
                    threads=self.settings.threads,
                    deadline_seconds=self.settings.deadline_seconds,
                    numbers=[numbered.number for numbered in rows],
                )
            except JobFailed as error:
                log.warning("trial_failed", base=base.name, code=error.code, problem=error.message)
                return None

    async def _throughput(self, request: TaskRequest, base: BaseInfo, rows: Sequence[Row]) -> Throughput | None:
        """What a worker measures, or None when it cannot: then the hours come from the rule alone."""
        with tempfile.TemporaryDirectory(prefix="gradients-estimate-") as folder:
            texts = Path(folder) / "texts.jsonl"
            chosen = random.Random(0).sample(rows, min(SAMPLE_ROWS, len(rows)))  # always the same ones
            lines = (json.dumps(" ".join(_texts(dict(row)))[:LONGEST_TEXT]) for row in chosen)
            await asyncio.to_thread(lambda: texts.write_text("\n".join(lines), encoding="utf-8"))
            asked = ThroughputJob(
                base_folder=base.folder,
                texts_file=texts,
                max_tokens=cast(int, request.parameters.get("max_tokens", 512)),
            )
            job = Job(
                MEASURE_THROUGHPUT,
                asked.model_dump(mode="json"),
                Path(folder) / "job",
                deadline_seconds=self.settings.deadline_seconds,
                threads=self.settings.threads,
            )
            try:
                return Throughput.model_validate(await self.executor.run(job, report=lambda _: None))
            except JobFailed as error:
                log.warning("throughput_not_measured", base=base.name, code=error.code, problem=error.message)
                return None


def _texts(value: JsonValue) -> Iterator[str]:
    """Every text in a row's normal form, which holds what a model reads and writes."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
