"""A raced field: fewer rows, the same prizes, whoever breaks and wherever the validator dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from gradients.domain.evaluation import Fingerprint
from gradients.domain.json import JsonObject
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import TaskState
from gradients.errors import Blame, JobFailed
from gradients.execution.devices import Devices
from gradients.execution.job import Job, ReportProgress
from gradients.execution.records import prepare_folder, write_result
from gradients.repo.store import ContentStore
from gradients.scoring.rules import rules_at
from gradients.tasks.instruct.spec import INSTRUCT
from gradients.tasks.jobs.measuring import EntrantResult, MeasureJob
from gradients.testing.clock import HandClock
from gradients.testing.cpu_devices import cpu_devices
from gradients.testing.fake_chain import FakeChain
from tests.unit.validator.market import PREPARED, TASK, WINDOW, claimed, collected, failures, found, tiny_bases
from validator.folders import Folders
from validator.ledger import Ledger
from validator.measuring.entrants import Entrants
from validator.measuring.race import Race
from validator.settings import MeasureSettings
from validator.stages.measure import MeasureStage
from validator.stages.score import ScoreStage

ROWS = 300
GAINS = {"best": 0.40, "second": 0.39, "middling": 0.22, "poor": 0.05, "none": 0.0, "worse": -0.3}  # of a base of 2.0
Values = dict[str, np.ndarray]


def drawn(seed: int = 1) -> Values:
    random = np.random.default_rng(seed)
    base = 2.0 + 0.3 * random.standard_normal(ROWS)
    return {
        BASE_ENTRANT: base,
        **{name: base - gain + 0.1 * random.standard_normal(ROWS) for name, gain in GAINS.items()},
    }


@dataclass
class Evaluator:
    """An Executor that measures by a table of values; `disturb` may raise before an entrant of a job is written, or change its result."""

    values: Values
    disturb: Callable[[str, EntrantResult], EntrantResult] = lambda _, result: result
    rows: dict[str, int] = field(default_factory=dict)  # measured of each
    sketched: set[str] = field(default_factory=set)

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        prepare_folder(job)
        asked = MeasureJob.model_validate(job.arguments)
        asked.results_folder.mkdir(parents=True, exist_ok=True)
        places = [place for block in asked.blocks for place in block] or list(range(ROWS))
        for entrant in asked.entrants:
            report({"entrant": entrant.id, "rows_done": 0, "rows": len(places)})
            await asyncio.sleep(0)
            file = asked.results_folder / f"{entrant.id}.json"
            if file.exists():
                continue
            own = self.values[entrant.id][places]
            seed = sum(entrant.id.encode())
            sketch = np.random.default_rng(seed).standard_normal(256)
            fingerprint = Fingerprint(tuple((sketch / np.linalg.norm(sketch)).tolist()))
            result = EntrantResult(
                entrant=entrant.id,
                value=float(own.mean()),
                stderr=0.1,
                per_row=tuple(own.tolist()),
                fingerprint=fingerprint if asked.sketch_key and entrant.id != BASE_ENTRANT else None,
            )
            result = self.disturb(entrant.id, result)
            self.sketched |= {entrant.id} if result.fingerprint else set()
            self.rows[entrant.id] = self.rows.get(entrant.id, 0) + len(places)
            file.write_text(result.model_dump_json())
        write_result(job.folder, job_digest="", result={})
        return {}


class Track:
    """A task with six repos and many rows."""

    def __init__(self, folder: Path, *, racing: bool, devices: Devices | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", HandClock())
        collected(self.ledger, list(GAINS), prepared=replace(PREPARED, held_out_rows=ROWS))
        self.folder, self.racing, self.devices = folder, racing, devices or cpu_devices(1)
        self.bases = tiny_bases(folder)

    def measure(self, evaluator: Evaluator) -> None:
        async def main() -> None:
            chain = FakeChain()
            await chain.advance(WINDOW.reveal_until_block)
            stage = MeasureStage(
                self.ledger,
                chain.gateway("validator"),
                self.bases,
                ContentStore(self.folder / "blobs"),
                evaluator,
                self.devices,
                Folders(self.folder),
                MeasureSettings(racing=self.racing),
            )
            await stage.run(claimed(self.ledger, TaskState.COLLECTED, block=10_000))

        asyncio.run(main())

    def prizes(self) -> Mapping[str, float]:
        async def main() -> None:
            chain = FakeChain()
            await chain.advance(WINDOW.reveal_until_block)
            stage = ScoreStage(self.ledger, chain.gateway("validator"), HandClock())
            await stage.run(claimed(self.ledger, TaskState.MEASURED))

        asyncio.run(main())
        assert found(self.ledger).state is TaskState.SCORED
        return {placing.hotkey: placing.points for placing in self.ledger.placings.of_task(TASK)}

    def rows(self) -> dict[str, int]:
        return {name: len(m.per_row) for name, m in self.ledger.submissions.measurements(TASK).items()}


def run(folder: Path, *, racing: bool = True, values: Values | None = None) -> tuple[Track, Evaluator]:
    track, evaluator = Track(folder, racing=racing), Evaluator(values or drawn())
    track.measure(evaluator)
    return track, evaluator


def test_who_cannot_win_stops_early_and_the_prizes_are_the_same(tmp_path: Path) -> None:
    values = drawn()
    raced, evaluator = run(tmp_path / "raced", values=values)
    full, _ = run(tmp_path / "full", racing=False, values=values)
    measurements = raced.ledger.submissions.measurements(TASK)
    assert raced.rows() == evaluator.rows
    assert evaluator.rows[BASE_ENTRANT] == evaluator.rows["best"] == ROWS
    looks = rules_at(WINDOW.started_at_block).looks(ROWS)
    assert {evaluator.rows[name] for name in ("poor", "none", "worse")} == {looks[0]}
    assert {name for name, each in measurements.items() if each.rows_of} == {
        name for name, rows in evaluator.rows.items() if rows < ROWS
    }
    for name, each in measurements.items():
        if each.rows_of is None:
            assert each.per_row == tuple(values[name].tolist())
        else:
            assert set(each.per_row) <= set(values[name].tolist())
    assert evaluator.sketched == set(GAINS)
    mine, theirs = raced.prizes(), full.prizes()
    assert max(abs(mine[name] - theirs[name]) for name in GAINS) < 0.01
    assert mine["best"] > 0


def test_a_validator_that_dies_in_a_race_goes_on_where_it_was(tmp_path: Path) -> None:
    values = drawn()
    whole, _ = run(tmp_path / "whole", values=values)
    track, seen = Track(tmp_path / "cut", racing=True), []

    def die(name: str, result: EntrantResult) -> EntrantResult:
        seen.append(name)
        if len(seen) == len(GAINS) + 2:  # in the second block
            raise KeyboardInterrupt
        return result

    with pytest.raises(KeyboardInterrupt):
        track.measure(Evaluator(values, die))
    after = Evaluator(values)
    _expire(track)
    track.measure(after)
    assert track.ledger.submissions.measurements(TASK) == whole.ledger.submissions.measurements(TASK)
    assert BASE_ENTRANT not in after.rows
    assert sum(after.rows.values()) < sum(whole.rows().values())


def _expire(track: Track) -> None:
    """Let the lease of the process that died run out."""
    clock = track.ledger.tasks._clock
    assert isinstance(clock, HandClock)
    clock.time += 3600


@pytest.mark.parametrize("when", [0, 1])
def test_one_that_breaks_off_or_tells_of_other_rows_fails_alone(tmp_path: Path, when: int) -> None:
    track = Track(tmp_path, racing=True, devices=cpu_devices(2))
    blocks = dict.fromkeys(GAINS, 0)

    def disturb(name: str, result: EntrantResult) -> EntrantResult:
        if name == BASE_ENTRANT:
            return result
        block, blocks[name] = blocks[name], blocks[name] + 1
        if name == "second" and block >= when:
            raise JobFailed("killed", code="job_killed")
        if name == "middling" and block == 0:
            return result.model_copy(update={"per_row": result.per_row[:-1]})
        return result

    track.measure(Evaluator(drawn(), disturb))
    assert failures(track.ledger) == {
        "second": (Blame.OPERATOR.value, "evaluation_failed"),
        "middling": (Blame.OPERATOR.value, "evaluation_failed"),
    }
    assert set(track.rows()) == {BASE_ENTRANT, *GAINS} - {"second", "middling"}
    assert track.prizes()["best"] == pytest.approx(1.0)


def test_a_field_with_few_rows_or_of_a_type_that_has_no_blocks_is_not_raced(ledger: Ledger, tmp_path: Path) -> None:
    collected(ledger, ["one"], prepared=replace(PREPARED, held_out_rows=95))
    task = found(ledger)
    entrants = Entrants(ledger, Folders(tmp_path), claimed(ledger, TaskState.COLLECTED), INSTRUCT.metric)
    assert Race.of(task, 1, entrants) is None
    many = replace(task, prepared=replace(PREPARED, held_out_rows=96))
    assert Race.of(many, 1, entrants) is not None
    drawing = replace(many, request=replace(many.request, type="diffusion"))
    assert Race.of(drawing, 1, entrants) is None
