"""A miner begins where its own searches ended."""

from __future__ import annotations

import pytest

from gradients.tasks.jobs.training import TrainingPlan, TrainResult
from miner.experience import Found, informed

PLAN = TrainingPlan(
    recipe="tiny", method="lora", learning_rate=1e-3, probe_learning_rates=(5e-4, 1e-3), batch_rows=8, candidates=100
)


def found(factor: float, **changes: object) -> Found:
    fields = {"recipe": "tiny", "method": "lora", "parameters": 1_000_000, "batch_rows": 4, "epochs": 6.0}
    return Found.model_validate({**fields, "rate_factor": factor, **changes})


def result(**changes: object) -> TrainResult:
    fields = {
        "kind": "adapter",
        "steps": 10,
        "rows_seen": 80,
        "learning_rate": 2e-3,
        "batch_rows": 4,
        "epochs": 7.5,
        "candidates": 6,
        "averaged": 1,
        "train_loss": 1.0,
        "validation_loss": 0.9,
        "beats_base": True,
        "seconds": 1.0,
    }
    return TrainResult.model_validate(fields | changes)


def test_three_searches_give_their_median() -> None:
    past = [found(4.0, batch_rows=2, epochs=9.0), found(1.0, epochs=3.0), found(2.0)]
    plan = informed(PLAN, past, parameters=1_000_000)
    assert (plan.learning_rate, plan.probe_learning_rates) == (2e-3, (1e-3, 2e-3))
    assert (plan.batch_rows, plan.max_epochs) == (4, 6.0)


def test_two_searches_say_nothing() -> None:
    assert informed(PLAN, [found(4.0)] * 2, parameters=1_000_000) == PLAN


@pytest.mark.parametrize("other", [{"recipe": "other"}, {"method": "full"}, {"parameters": 4_000_000}])
def test_other_recipes_ways_and_sizes_say_nothing(other: dict[str, object]) -> None:
    assert informed(PLAN, [found(4.0, **other)] * 5, parameters=1_000_000) == PLAN


def test_a_plan_that_does_not_search_is_left_alone() -> None:
    alone = PLAN.model_copy(update={"candidates": 1})
    assert informed(alone, [found(4.0)] * 5, parameters=1_000_000) == alone


def test_a_rate_is_never_moved_far_from_the_recipes() -> None:
    assert informed(PLAN, [found(1000.0)] * 3, parameters=1_000_000).learning_rate == 8e-3
    assert informed(PLAN, [found(1e-6)] * 3, parameters=1_000_000).learning_rate == 1e-3 / 8


def test_only_the_newest_twenty_count() -> None:
    past = [*[found(2.0)] * 20, *[found(8.0)] * 100]
    assert informed(PLAN, past, parameters=1_000_000).learning_rate == 2e-3


def test_what_is_learnt_is_relative_to_the_recipes_own_rate_not_to_the_informed_one() -> None:
    begun = PLAN.model_copy(update={"learning_rate": 2e-3})
    learnt = Found.of(result(learning_rate=4e-3), begun, recipe_rate=1e-3, parameters=7)
    assert learnt == found(4.0, parameters=7, epochs=7.5)


@pytest.mark.parametrize("nothing", [{"candidates": 1}, {"beats_base": False}, {"beats_base": None}])
def test_nothing_is_learnt_without_a_search_or_a_gain(nothing: dict[str, object]) -> None:
    assert Found.of(result(**nothing), PLAN, recipe_rate=1e-3, parameters=7) is None
