"""What a spec will take, before it is posted: its rows and tokens counted, a few steps of its base measured, the hours computed."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from gradients.bases.bases import BaseInfo, BaseModels
from gradients.client.models import Estimate, MeasuredSpeed, RowsHours
from gradients.datasets.access import Access
from gradients.domain.json import Json
from gradients.domain.task import TaskRequest
from gradients.errors import JobFailed
from gradients.execution.job import Job
from gradients.files.plain import check_plain
from gradients.log import get_logger
from gradients.tasks.base import TaskType
from gradients.tasks.hours import Workload, budget, hours_by_rows
from gradients.tasks.jobs import (
    MEASURE_THROUGHPUT,
    SURVEY,
    SURVEYED_TEXTS,
    SurveyJob,
    SurveyResult,
    Throughput,
    ThroughputJob,
)
from gradients.tasks.preparation import Fetched, fetch_sources
from gradients.tasks.registry import LONGEST_REQUEST_HOURS, check_family, task_type, validate_request
from validator.reading import DataReader
from validator.settings import EstimateSettings

SAMPLE_ROWS = 256
MOST_READERS = 8  # specs whose sources are read at the same time
LONGEST_TEXT = 100_000  # characters of one row in the sample
MOST_TEXTS_BYTES = 8 * SAMPLE_ROWS * LONGEST_TEXT  # as JSON escapes them

log = get_logger("estimates")


@dataclass(frozen=True, slots=True)
class Estimates:
    """Reads the rows of several specs side by side, and measures one at a time: each measurement has a model in memory."""

    bases: BaseModels
    reader: DataReader
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
        speed: Throughput | None = None
        with tempfile.TemporaryDirectory(prefix="gradients-estimate-", ignore_cleanup_errors=True) as place:
            rows = await self._survey(kind, request, Path(place))
            base = await asyncio.to_thread(self.bases.resolve, request.base)
            if kind.effort.goes_by_tokens:
                async with self.turn:
                    speed = await self._throughput(request, base, Path(place))
        work = Workload(
            effort=kind.effort,
            rows=rows,
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
        )

    async def _survey(self, kind: TaskType, request: TaskRequest, folder: Path) -> int:
        """How many rows there are, with a sample of their texts in the folder. Their sources are fetched here, and read by a worker."""
        loop = asyncio.get_running_loop()
        fetched = await loop.run_in_executor(self.readers, self._fetch, kind, request, folder / "fetched")
        job = SurveyJob(
            request=dataclasses.asdict(request),
            fetched=dict(fetched),
            folder=folder / "texts",
            sample_rows=SAMPLE_ROWS,
            longest_text=LONGEST_TEXT,
        )
        return SurveyResult.model_validate(await self.reader.run(SURVEY, job, folder=folder / "survey")).rows

    def _fetch(self, kind: TaskType, request: TaskRequest, folder: Path) -> Fetched:
        """What costs least is checked first. Blocking, for as long as the sources take."""
        check_family(kind, request.base, self.bases.look(request.base))
        return fetch_sources(kind, request, folder, access=self.access)

    async def _throughput(self, request: TaskRequest, base: BaseInfo, folder: Path) -> Throughput | None:
        """What a worker measures on the sample, or None when it cannot: then the hours come from the rule alone."""
        texts = check_plain(folder / "texts" / SURVEYED_TEXTS, most_bytes=MOST_TEXTS_BYTES)
        asked = ThroughputJob(
            base_folder=base.folder,
            texts_file=texts,
            max_tokens=cast(int, request.parameters.get("max_tokens", 512)),
        )
        job = Job(
            MEASURE_THROUGHPUT,
            asked.model_dump(mode="json"),
            folder / "job",
            deadline_seconds=self.settings.deadline_seconds,
            threads=self.settings.threads,
            reads=(base.folder, texts),
            accelerator=True,
        )
        try:
            return Throughput.model_validate(await self.reader.executor.run(job, report=lambda _: None))
        except JobFailed as error:
            log.warning("throughput_not_measured", base=base.name, code=error.code, problem=error.message)
            return None
