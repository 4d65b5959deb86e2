"""MEASURED -> SCORED: points from the rows of the ledger, once, and the cases that people argue about."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pytest

from gradients.domain.evaluation import Measurement, Metric, Placing
from gradients.domain.failure import Failure
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import TaskState
from gradients.errors import Blame, LeaseLost
from gradients.scoring.rules import rules_at
from gradients.testing.clock import HandClock
from gradients.testing.fake_chain import FakeChain
from tests.unit.validator.market import PREPARED, TASK, WINDOW, claimed, collected, failures, found, request_for
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.stages.score import ScoreStage

METRIC = Metric("completion cross-entropy", "nats/token", 1, "lower")
RULES = rules_at(WINDOW.started_at_block)
ROWS = 50


def _measured(
    ledger: Ledger,
    values: Mapping[str, float | Failure],
    *,
    base: float = 3.0,
    early: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """A task in MEASURED; miners committed in the order of `values`. Every row of an entrant lies near its value."""
    collected(ledger, list(values), request_for(hours=4.0))
    lease = claimed(ledger, TaskState.COLLECTED).lease
    for entrant, value in {BASE_ENTRANT: base, **values}.items():
        if isinstance(value, Failure):
            ledger.submissions.failed(lease, entrant, value)
        else:
            known = early.get(entrant)
            measured = Measurement(
                entrant, METRIC, value=value, stderr=0.0, per_row=_rows(value)[:known], rows_of=ROWS if known else None
            )
            ledger.submissions.measured(lease, measured)
    ledger.tasks.advance(lease, came_from=TaskState.COLLECTED, to=TaskState.MEASURED)


def _rows(value: float) -> tuple[float, ...]:
    """Values of rows with this mean; of equal means the same ones, of others independent."""
    noise = np.random.default_rng(round(value * 1000)).standard_normal(ROWS) / 100
    return tuple(map(float, value + noise - noise.mean()))


async def _run(ledger: Ledger, clock: HandClock, claim: Claim) -> None:
    chain = FakeChain()
    await chain.advance(WINDOW.deadline_block + 9)
    await ScoreStage(ledger, chain.gateway("validator"), clock).run(claim)


def _score(ledger: Ledger, clock: HandClock) -> dict[str, Placing]:
    asyncio.run(_run(ledger, clock, claimed(ledger, TaskState.MEASURED)))
    assert found(ledger).state is TaskState.SCORED
    return {placing.hotkey: placing for placing in ledger.placings.of_task(TASK)}


def test_lower_losses_take_the_better_places(ledger: Ledger, clock: HandClock) -> None:
    _measured(ledger, {"alice": 2.0, "bob": 1.0, "carol": 2.5})
    placed = _score(ledger, clock)
    assert {hotkey: placing.rank for hotkey, placing in placed.items()} == {"bob": 1, "alice": 2, "carol": 3}
    assert [placed[name].points for name in ("bob", "alice", "carol")] == [1.0, 0.0, 0.0]
    assert placed["bob"].gain == pytest.approx(2.0)


def test_whoever_stopped_early_has_a_place_and_no_prize(ledger: Ledger, clock: HandClock) -> None:
    """An entrant has the values of the first rows of the race only, in the file's order; the race's seed is the contest's."""
    _measured(ledger, {"alice": 2.0, "bob": 1.0}, early={"alice": 32})
    placed = _score(ledger, clock)
    assert [placed[name].points for name in ("bob", "alice")] == [1.0, 0.0]
    assert [placed[name].rank for name in ("bob", "alice")] == [1, 2]
    assert f"first 32 of {ROWS} rows; stopped early" in placed["alice"].reason
    assert placed["alice"].gain == pytest.approx(1.0, abs=0.02)


def test_prizes_grow_with_the_size_of_the_task(ledger: Ledger, clock: HandClock) -> None:
    """Half an hour on a base of 1.5 million parameters counts as the least there is; on one of 32 billion as 8."""
    _measured(ledger, {"alice": 2.0})
    placing = _score(ledger, clock)["alice"]
    [result] = ledger.placings.results(window_blocks=None)
    assert (
        result.factor == placing.adjusted_points == RULES.factor(parameters=PREPARED.base_parameters, hours=4.0) == 1.0
    )
    assert RULES.factor(parameters=32 * 10**9, hours=0.5) == 8.0


def test_of_equal_values_the_earlier_commitment_keeps_the_place(ledger: Ledger, clock: HandClock) -> None:
    _measured(ledger, {"early": 2.0, "late": 2.0, "worse": 2.5})
    placed = _score(ledger, clock)
    assert (placed["early"].rank, placed["worse"].rank) == (1, 2)
    assert placed["late"].rank is None
    assert placed["late"].copy_of == "early"
    assert "committed first" in placed["late"].reason


def test_the_untouched_base_wins_nothing(ledger: Ledger, clock: HandClock) -> None:
    _measured(ledger, {"copy of the base": 3.0})
    placing = _score(ledger, clock)["copy of the base"]
    assert (placing.rank, placing.points) == (None, 0.0)
    assert "not better than the base" in placing.reason


def test_when_everything_failed_nobody_has_a_place(ledger: Ledger, clock: HandClock) -> None:
    ours, theirs = Failure(Blame.OPERATOR, "evaluation_failed", "OOM"), Failure(Blame.MINER, "not_revealed", "gone")
    _measured(ledger, {"alice": ours, "bob": theirs})
    placed = _score(ledger, clock)
    assert {placing.rank for placing in placed.values()} == {None}
    assert [placed[name].points for name in ("alice", "bob")] == [0.0, 0.0]
    assert [placed[name].fault for name in ("alice", "bob")] == [Blame.OPERATOR, Blame.MINER]


@pytest.mark.parametrize("blame", [Blame.OPERATOR, Blame.OUTSIDE, Blame.CUSTOMER])
def test_a_failure_earns_nothing_and_keeps_whose_fault_it_was(ledger: Ledger, clock: HandClock, blame: Blame) -> None:
    _measured(
        ledger,
        {
            "good": 2.0,
            "unlucky": Failure(blame, "broke_off", "not its fault"),
            "bad": Failure(Blame.MINER, "nan", "NaN"),
        },
    )
    placed = _score(ledger, clock)
    assert {name: placed[name].points for name in placed} == {"good": 1.0, "unlucky": 0.0, "bad": 0.0}
    assert (placed["unlucky"].fault, placed["bad"].fault) == (blame, Blame.MINER)
    assert "nan: NaN" in placed["bad"].reason
    assert failures(ledger)["unlucky"] == (blame.value, "broke_off")


def test_a_submission_that_was_never_measured_costs_its_miner_nothing(ledger: Ledger, clock: HandClock) -> None:
    collected(ledger, ["good", "forgotten"])
    lease = claimed(ledger, TaskState.COLLECTED).lease
    for entrant, value in ((BASE_ENTRANT, 3.0), ("good", 2.0)):
        ledger.submissions.measured(lease, Measurement(entrant, METRIC, value=value, stderr=0.0, per_row=_rows(value)))
    ledger.tasks.advance(lease, came_from=TaskState.COLLECTED, to=TaskState.MEASURED)
    placing = _score(ledger, clock)["forgotten"]
    assert (placing.rank, placing.points) == (None, 0)
    assert "not_measured" in placing.reason


def test_a_task_without_miners_is_scored_without_places(ledger: Ledger, clock: HandClock) -> None:
    _measured(ledger, {})
    assert _score(ledger, clock) == {}


def test_a_task_is_scored_once(ledger: Ledger, clock: HandClock) -> None:
    _measured(ledger, {"alice": 2.0})
    claim = claimed(ledger, TaskState.MEASURED)
    asyncio.run(_run(ledger, clock, claim))
    before = ledger.placings.of_task(TASK)
    with pytest.raises(LeaseLost):
        asyncio.run(_run(ledger, clock, claim))
    assert ledger.placings.of_task(TASK) == before
