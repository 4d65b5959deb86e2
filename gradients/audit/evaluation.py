"""Measures submissions again, from the record's files alone, in a worker like the validator's.

On the same kind of processor and the same libraries every row has to be equal to the bit; elsewhere within TOLERANCE of its value.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from gradients.audit.report import Checks
from gradients.bases.bases import BaseInfo, BaseModels, base_in
from gradients.bases.continued import FILE_PATH
from gradients.domain.seasons import key_of
from gradients.domain.submission import BASE_ENTRANT
from gradients.errors import GradientsError, JobFailed, ModelUnknown, OutsideError
from gradients.execution.job import Executor, Job
from gradients.files.plain import read_plain
from gradients.record.models import EntrantPart, TaskBody
from gradients.record.reading import RecordSource
from gradients.record.terms import files_of, manifest_in, task_in
from gradients.record.versions import MATTER, versions
from gradients.repo.screening import screen_folder, screen_manifest
from gradients.scoring.contest import contest_seed
from gradients.scoring.row_order import places_of
from gradients.tasks.jobs.measuring import MOST_RESULT_BYTES, Entrant, EntrantResult, MeasureJob
from gradients.tasks.jobs.message import Parameters
from gradients.tasks.registry import needs_sandbox, task_type

TOLERANCE = 2e-3  # of a row's value, and absolutely below 1: other processors and libraries add in another order
SECONDS = 3600.0  # for each entrant
MOST_THREADS = 64


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Runs evaluations here."""

    bases: BaseModels
    executor: Executor
    source: RecordSource

    async def check(
        self, body: TaskBody, hotkeys: Sequence[str], checks: Checks, *, season_secret: str | None = None
    ) -> int:
        """Measure the base and these miners of a task again; how many submissions were measured.

        Args:
            season_secret: with it fingerprints are taken again, too.
        """
        wanted = {entrant.entrant: entrant for entrant in body.entrants if entrant.entrant in hotkeys}
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            try:
                base = self._base(body, folder / "base")
            except ModelUnknown as error:
                checks.alarm("body.request.base", body.request.base, str(error))
                return 0
            except OutsideError as error:
                checks.note(f"the base {body.request.base} cannot be had here: {error}")
                return 0
            checks.equal("body.data.base_parameters", body.data.base_parameters, base.parameters)
            same = checks.equal("body.data.base_digest", body.data.base_digest, base.digest)
            if not same or body.metric_seed is None:
                return 0
            entrants = [Entrant(id=BASE_ENTRANT)]
            try:
                held_out = self.source.blob(body.data.held_out.sha256, folder)
                for hotkey, entrant in wanted.items():
                    manifest = manifest_in(entrant)
                    if manifest is None or entrant.measurement is None:
                        continue
                    self._repo(entrant, folder / hotkey)
                    screen_manifest(manifest, base)
                    screen_folder(folder / hotkey, manifest, base)
                    entrants.append(Entrant(id=hotkey, folder=folder / hotkey))
            except GradientsError as error:
                checks.alarm("body.entrants", ", ".join(wanted), f"it cannot be measured again: {error}")
                return 0
            arguments = MeasureJob(
                base_folder=base.folder,
                held_out_file=held_out,
                parameters=cast(Parameters, dict(task_in(body).request.parameters)),
                entrants=tuple(entrants),
                results_folder=folder / "results",
                seed=body.metric_seed,
                sketch_key=key_of(season_secret, body.data.base_digest) if season_secret else "",
            )
            job = Job(
                function=task_type(body.request.type).measure,
                arguments=arguments.model_dump(mode="json"),
                folder=folder / "job",
                deadline_seconds=SECONDS * len(entrants),
                threads=_threads(body.versions),
                reads=arguments.reads(),
                writes=(arguments.results_folder,),
                accelerator=True,
                runs_programs=needs_sandbox(task_in(body).request),
            )
            try:
                await self.executor.run(job, report=lambda _: None)
            except JobFailed as error:
                checks.note(f"the evaluation failed here: {error}")
                return 0
            # Rows of a race were measured block by block, so in other batches than here, where they are all measured together.
            raced = any(each.measurement and each.measurement.rows_of for each in body.entrants)
            exact = _alike(body.versions) and not raced
            seed = contest_seed(body.task_id, body.blocks.deadline_hash)
            for position, each in enumerate(body.entrants):
                file = folder / "results" / f"{each.entrant}.json"
                if each.measurement is not None and file.exists():
                    result = EntrantResult.model_validate_json(read_plain(file, most_bytes=MOST_RESULT_BYTES))
                    _compare(each, _as_raced(each, result, seed), checks, position, exact=exact)
        return len(entrants) - 1

    def _base(self, body: TaskBody, folder: Path) -> BaseInfo:
        """The task's base; of a task that continues another its files are in the record."""
        if body.data.parent is None:
            return self.bases.resolve(body.request.base)
        with tempfile.TemporaryDirectory(dir=folder.parent) as blobs:
            for path, sha256 in body.data.parent.files.items():
                if not re.fullmatch(FILE_PATH, path):
                    raise ModelUnknown(f"The record names a file {path[:96]!r}, which no base has")
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.source.blob(sha256, Path(blobs)), folder / path)
        return base_in(body.request.base, folder)

    def _repo(self, entrant: EntrantPart, folder: Path) -> None:
        """The submission's files under their names."""
        folder.mkdir()
        with tempfile.TemporaryDirectory(dir=folder.parent) as blobs:
            for name, file in files_of(entrant).items():
                shutil.copyfile(self.source.blob(file.sha256, Path(blobs)), folder / name)


def _as_raced(entrant: EntrantPart, result: EntrantResult, seed: int) -> EntrantResult:
    """The result on the rows that an entrant was measured on before it stopped."""
    measured = entrant.measurement
    if measured is None or measured.rows_of is None or not 0 < len(measured.per_row) <= len(result.per_row):
        return result
    places = places_of(seed, len(result.per_row), known=len(measured.per_row)).tolist()
    return result.model_copy(update={"per_row": tuple(result.per_row[place] for place in places)})


def _compare(entrant: EntrantPart, result: EntrantResult, checks: Checks, position: int, *, exact: bool) -> None:
    measured, path = entrant.measurement, f"body.entrants.{position}.measurement"
    if measured is None:
        return
    if result.value is None:
        checks.alarm(path, measured.value, f"{result.failure_code}: {result.failure_message}")
        return
    tolerance = 0.0 if exact else TOLERANCE
    for row, (one, other) in enumerate(zip(measured.per_row, result.per_row, strict=False)):
        if abs(one - other) > tolerance * max(1.0, abs(other)):
            checks.alarm(f"{path}.per_row.{row}", one, other)
    if len(measured.per_row) != len(result.per_row):
        checks.alarm(f"{path}.per_row", len(measured.per_row), len(result.per_row))
    if result.fingerprint is None:
        return
    for name in ("update", "outputs"):
        ours: tuple[float, ...] = getattr(result.fingerprint, name)
        theirs: tuple[float, ...] = getattr(measured.fingerprint, name) if measured.fingerprint else ()
        largest = max(map(abs, ours), default=0.0)
        for number, (one, other) in enumerate(zip(theirs, ours, strict=False)):
            if abs(one - other) > tolerance * largest:
                checks.alarm(f"{path}.fingerprint.{name}.{number}", one, other)
        if len(theirs) != len(ours):
            checks.alarm(f"{path}.fingerprint.{name}", len(theirs), len(ours))


def _alike(theirs: Mapping[str, str]) -> bool:
    """Whether the record was measured where equal bits can be asked for: by the same libraries on the same processor."""
    ours = versions()
    return theirs.get("accelerator") == "cpu" and all(theirs.get(name) == ours.get(name) for name in MATTER)


def _threads(theirs: Mapping[str, str]) -> int:
    """With so many threads the validator measured: sums in another order end in other bits."""
    given = theirs.get("threads", "1")
    return min(int(given), MOST_THREADS) if given.isdecimal() and int(given) > 0 else 1
