"""What a spec will take, before it is posted: its rows and tokens counted, a few steps of its base measured, the hours computed."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from gradients.bases.bases import BaseInfo, BaseModels
from gradients.client.estimates import (
    DataReport,
    Estimate,
    LengthBar,
    LengthReport,
    MeasuredSpeed,
    RowsHours,
    TrainingMemory,
)
from gradients.datasets.access import Access
from gradients.domain.json import Json
from gradients.domain.task import TaskRequest
from gradients.errors import JobFailed
from gradients.execution.job import Executor, Job
from gradients.files.plain import check_plain
from gradients.log import get_logger
from gradients.tasks.base import TaskType
from gradients.tasks.footprint import Method, Shape, smallest_gpu
from gradients.tasks.hours import Workload, budget, hours_by_rows
from gradients.tasks.jobs.machine import MEASURE_THROUGHPUT, Throughput, ThroughputJob
from gradients.tasks.jobs.rows import SURVEY, SURVEYED_TEXTS, TRIED_ROWS, Lengths, SurveyJob, SurveyResult, TrialResult
from gradients.tasks.jobs.training import TrainingPlan
from gradients.tasks.picture_footprint import Pipeline, size_in, smallest_gpu_for
from gradients.tasks.registry import LONGEST_REQUEST_HOURS, TYPES, check_family, task_type, validate_request
from validator.settings import EstimateSettings, ReadingSettings
from validator.specs.reading import fetch_data, read_data, source_reports
from validator.specs.trials import try_base

SAMPLE_ROWS = 256
MOST_READERS = 8  # specs whose sources are read at the same time
LONGEST_TEXT = 100_000  # characters of one row in the sample
MOST_TEXTS_BYTES = 8 * SAMPLE_ROWS * LONGEST_TEXT  # as JSON escapes them
MOST_COMPARED_ROWS = 50_000  # some ten seconds; larger sets are compared when their task is prepared
SHOWN_ROWS = 3
LONGEST_ROW = 131_072  # tokens, where a base does not say what it reads
MOST_SURVEYS = 2  # at the same time; each may take as much memory as a worker on data may

log = get_logger("estimates")


@dataclass(frozen=True, slots=True)
class Estimates:
    """Reads the rows of several specs side by side, and measures one at a time: each measurement has a model in memory."""

    bases: BaseModels
    executor: Executor
    access: Access
    settings: EstimateSettings
    reading: ReadingSettings = field(default_factory=ReadingSettings)
    surveys: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST_SURVEYS))
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    readers: ThreadPoolExecutor = field(  # its own: a slow source must not hold up the daemon
        default_factory=lambda: ThreadPoolExecutor(MOST_READERS, thread_name_prefix="estimate")
    )

    async def of(self, spec: Mapping[str, Json], *, stand_in: BaseInfo | None = None) -> Estimate:
        """Rows, tokens, weights, speed and hours of a spec; its own hours play no part. Raises CustomerError when it cannot be run.

        Args:
            stand_in: what is measured in place of a base that is not made before the task is posted.

        Rows that nearly repeat each other are found when the task is prepared only.
        """
        request = validate_request({**spec, "hours": LONGEST_REQUEST_HOURS})
        kind = task_type(request.type)
        speed: Throughput | None = None
        with tempfile.TemporaryDirectory(prefix="gradients-estimate-", ignore_cleanup_errors=True) as place:
            folder = Path(place)
            if stand_in is None:  # what costs least is checked first
                family = await asyncio.get_running_loop().run_in_executor(self.readers, self.bases.look, request.base)
                check_family(kind, request.base, family)
            surveyed = await self._survey(kind, request, folder)
            base = stand_in
            if base is None:
                base = await asyncio.to_thread(self.bases.resolve, request.base)
            async with self.turn:
                tried = await self._tried(request, base, folder, surveyed.tried)
                if kind.effort.goes_by_tokens:
                    speed = await self._throughput(request, base, folder)
        work = Workload(
            effort=kind.effort,
            rows=surveyed.rows,
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
            memory=_memory(kind, request, base),
            data=_report(request, surveyed, tried),
        )

    async def _survey(self, kind: TaskType, request: TaskRequest, folder: Path) -> SurveyResult:
        """How many rows there are, with a sample of them in the folder. Their sources are fetched here, and read by a worker."""
        fetched = await fetch_data(self.readers, kind, request, folder / "fetched", self.access)
        job = SurveyJob(
            declaration=TYPES[request.type],
            request=dataclasses.asdict(request),
            fetched=tuple(fetched),
            folder=folder / "rows",
            sample_rows=SAMPLE_ROWS,
            longest_text=LONGEST_TEXT,
            most_compared=MOST_COMPARED_ROWS,
            shown_rows=SHOWN_ROWS,
        )
        async with self.surveys:
            result = await read_data(self.executor, SURVEY, job, folder=folder / "survey", settings=self.reading)
        return SurveyResult.model_validate(result)

    async def _tried(
        self, request: TaskRequest, base: BaseInfo, folder: Path, numbers: Sequence[int]
    ) -> TrialResult | None:
        """What a trial found; None where none can be made here. Raises CustomerError for what cannot be used."""
        rows, threads = folder / "rows" / TRIED_ROWS, self.settings.threads
        try:
            return await try_base(
                self.executor,
                request,
                base,
                rows,
                folder=folder / "trial",
                threads=threads,
                deadline_seconds=self.settings.deadline_seconds,
                numbers=numbers,
            )
        except JobFailed as error:
            log.warning("trial_failed", base=base.name, code=error.code, problem=error.message)
            return None

    async def _throughput(self, request: TaskRequest, base: BaseInfo, folder: Path) -> Throughput | None:
        """What a worker measures on the sample, or None when it cannot: then the hours come from the rule alone."""
        texts = check_plain(folder / "rows" / SURVEYED_TEXTS, most_bytes=MOST_TEXTS_BYTES)
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
            return Throughput.model_validate(await self.executor.run(job, report=lambda _: None))
        except JobFailed as error:
            log.warning("throughput_not_measured", base=base.name, code=error.code, problem=error.message)
            return None


def _memory(kind: TaskType, request: TaskRequest, base: BaseInfo) -> tuple[TrainingMemory, ...]:
    """Which GPUs hold the training of the longest row that is read; of pictures a LoRA, where the base's files tell its shape."""
    size = size_in(base.folder, base.parameters)
    read = size.context if isinstance(size, Shape) else None
    # a plan that cuts no row shorter than the task or the base does
    plan = TrainingPlan(recipe="estimate", method="lora", learning_rate=1e-4, max_tokens=read or LONGEST_ROW)
    load = kind.load(kind.schema.model_validate(request.parameters), plan)
    if isinstance(size, Pipeline):
        return (TrainingMemory(method="lora", gpu_gib=smallest_gpu_for(size, pixels=load.pixels)),)
    if kind.base_family != "language":
        return ()
    methods: tuple[Method, ...] = ("lora", "full")
    return tuple(TrainingMemory(method=each, gpu_gib=smallest_gpu(size, each, load)) for each in methods)


def _report(request: TaskRequest, surveyed: SurveyResult, tried: TrialResult | None) -> DataReport | None:
    """What people are told of the rows."""
    if surveyed.characters is None:
        return None
    removed = dict(surveyed.removed)
    sides = (
        (surveyed.train_rows or 0) + (surveyed.held_out_rows or 0) if surveyed.train_rows is not None else surveyed.rows
    )
    return DataReport(
        rows=sides + sum(removed.values()),
        removed=removed,
        train_rows=surveyed.train_rows,
        held_out_rows=surveyed.held_out_rows,
        sources=source_reports(request, surveyed.sources),
        characters=_lengths(surveyed.characters),
        tokens=_lengths(tried.tokens) if tried and tried.tokens else None,
        samples=surveyed.shown,
    )


def _lengths(lengths: Lengths) -> LengthReport:
    bars = tuple(LengthBar(up_to=up_to, rows=rows) for up_to, rows in lengths.histogram)
    return LengthReport(**{**lengths.model_dump(), "histogram": bars})
