"""MEASURED -> SCORED: points from the rows of the ledger, once, and the cases that people argue about."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from gradients.domain.evaluation import Measurement, Metric, Placing
from gradients.domain.failure import Failure
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import TaskState
from gradients.errors import Blame, LeaseLost
from gradients.scoring.placing import size_factor
from gradients.scoring.rules import rules_at
from gradients.testing.clock import HandClock
from tests.unit.validator.market import PREPARED, TASK, WINDOW, claimed, collected, failures, found, request_for
from validator.ledger import Ledger
from validator.stages.score import ScoreStage

METRIC = Metric("completion cross-entropy", "nats/token", 1, "lower")
RULES = rules_at(WINDOW.started_at_block)
ROWS = 50


def _measured(ledger: Ledger, values: Mapping[str, float | Failure], *, base: float = 3.0) -> None:
    """A task in MEASURED; miners committed in the order of `values`. Every row of an entrant has its value."""
    collected(ledger, list(values), request_for(hours=4.0))
    lease = claimed(ledger, TaskState.COLLECTED).lease
    for entrant, value in {BASE_ENTRANT: base, **values}.items():
        if isinstance(value, Failure):
            ledger.submissions.failed(lease, entrant, value)
        else:
            ledger.submissions.measured(
                lease, Measurement(entrant, METRIC, value=value, stderr=0.0, per_row=(value,) * ROWS)
            )
    ledger.tasks.advance(lease, came_from=TaskState.COLLECTED, to=TaskState.MEASURED)


def _score(ledger: Ledger, clock: HandClock) -> dict[str, Placing]:
    asyncio.run(ScoreStage(ledger, clock).run(claimed(ledger, TaskState.MEASURED)))
    assert found(ledger).state is TaskState.SCORED
    return {placing.hotkey: placing for placing in ledger.placings.of_task(TASK)}


def test_lower_losses_take_the_better_places(ledger: Ledger, clock: HandClock) -> None:
    _measured(ledger, {"alice": 2.0, "bob": 1.0, "carol": 2.5})
    placed = _score(ledger, clock)
    assert {hotkey: placing.rank for hotkey, placing in placed.items()} == {"bob": 1, "alice": 2, "carol": 3}
    assert placed["bob"].points == RULES.first_points > placed["alice"].points


def test_points_grow_with_the_size_of_the_task(ledger: Ledger, clock: HandClock) -> None:
    """4 hours on a base that counts as 1 billion parameters: 2 · sqrt(1 · 4) = 4."""
    _measured(ledger, {"alice": 2.0})
    placing = _score(ledger, clock)["alice"]
    assert size_factor(parameters=PREPARED.base_parameters, hours=4.0, rules=RULES) == 4.0
    assert placing.adjusted_points == 4.0 * placing.points


def test_of_equal_values_the_earlier_commitment_keeps_the_place(ledger: Ledger, clock: HandClock) -> None:
    _measured(ledger, {"early": 2.0, "late": 2.0, "worse": 2.5})
    placed = _score(ledger, clock)
    assert (placed["early"].rank, placed["worse"].rank) == (1, 2)
    assert placed["late"].rank is None
    assert "earlier" in placed["late"].reason


def test_the_untouched_base_wins_nothing(ledger: Ledger, clock: HandClock) -> None:
    _measured(ledger, {"copy of the base": 3.0})
    placing = _score(ledger, clock)["copy of the base"]
    assert placing.rank is None
    assert placing.points <= 0


def test_when_everything_failed_nobody_has_a_place(ledger: Ledger, clock: HandClock) -> None:
    ours, theirs = Failure(Blame.OPERATOR, "evaluation_failed", "OOM"), Failure(Blame.MINER, "not_revealed", "gone")
    _measured(ledger, {"alice": ours, "bob": theirs})
    placed = _score(ledger, clock)
    assert {placing.rank for placing in placed.values()} == {None}
    assert placed["alice"].points == 0
    assert placed["bob"].points <= 0


@pytest.mark.parametrize("blame", [Blame.OPERATOR, Blame.OUTSIDE, Blame.CUSTOMER])
def test_only_a_miners_own_failure_costs_points(ledger: Ledger, clock: HandClock, blame: Blame) -> None:
    _measured(
        ledger,
        {
            "good": 2.0,
            "unlucky": Failure(blame, "broke_off", "not its fault"),
            "bad": Failure(Blame.MINER, "nan", "NaN"),
        },
    )
    placed = _score(ledger, clock)
    assert placed["unlucky"].points == 0
    assert placed["bad"].points == RULES.last_points < 0
    assert "nan: NaN" in placed["bad"].reason
    assert failures(ledger)["unlucky"] == (blame.value, "broke_off")


def test_a_submission_that_was_never_measured_costs_its_miner_nothing(ledger: Ledger, clock: HandClock) -> None:
    collected(ledger, ["good", "forgotten"])
    lease = claimed(ledger, TaskState.COLLECTED).lease
    for entrant, value in ((BASE_ENTRANT, 3.0), ("good", 2.0)):
        ledger.submissions.measured(
            lease, Measurement(entrant, METRIC, value=value, stderr=0.0, per_row=(value,) * ROWS)
        )
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
    stage = ScoreStage(ledger, clock)
    asyncio.run(stage.run(claim))
    before = ledger.placings.of_task(TASK)
    with pytest.raises(LeaseLost):
        asyncio.run(stage.run(claim))
    assert ledger.placings.of_task(TASK) == before
