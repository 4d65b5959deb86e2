"""From runs of the recipes benchmark to what is compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.benchmarks.recipes.arms import GRID, ORACLES, RECIPES, SEARCHED, Where, of_grid
from scripts.benchmarks.recipes.results import outcomes_of, pairings
from scripts.benchmarks.recipes.run import Done, Run


def done(arm: str, *, selection: float, test: float) -> Done:
    """A run that took half a unit."""
    run = Run(base=None, task="kinship", arm=arm, seed=1, data="d", clock="tokens", seconds=15)
    return Done(run=run, selection=(selection,), test=(test,), units=5, unit_budget=10)


# By the selection rows the first recipe is the best one, by the test rows the second.
RUNS = [
    done("base", selection=4.0, test=4.0),
    *(
        done(name, selection=selection, test=test)
        for name, selection, test in zip(RECIPES, (1.0, 1.1, 2.0, 2.0), (1.5, 1.2, 2.0, 2.0), strict=True)
    ),
    done("planner", selection=1.0, test=1.26),
]


def test_a_market_hands_in_whom_the_selection_rows_choose_and_pays_for_all() -> None:
    (outcome,) = outcomes_of(RUNS)["market of 4"].values()
    assert outcome.test == (1.5,)
    assert outcome.share == pytest.approx(4 * 0.5)


def test_an_oracle_is_the_best_by_the_rows_that_are_reported() -> None:
    (outcome,) = outcomes_of(RUNS)["best recipe"].values()
    assert outcome.test == (1.2,)


def test_an_oracle_with_a_member_that_was_not_run_is_not_compared_with() -> None:
    assert "best recipe" not in outcomes_of([each for each in RUNS if each.run.arm != RECIPES[-1]])


def test_the_gap_to_an_oracle_is_the_loss_over_its_own() -> None:
    (pair,) = [each for each in pairings(outcomes_of(RUNS)) if each.against == "best recipe"]
    assert pair.arm == "planner"
    assert pair.comparison.gain.mean == pytest.approx(-5.0)  # 1.26 / 1.2


def test_the_oracles_settings_are_as_many_as_they_are_said_to_be_and_all_different(tmp_path: Path) -> None:
    where = Where("instruct", tmp_path, 2 * 10**6, 11)
    plans = [of_grid(number, where) for number in range(1, SEARCHED + 1)]
    told = {(plan.method, plan.learning_rate, plan.batch_rows, plan.max_epochs) for plan in plans}
    assert len(told) == len(GRID) == len(ORACLES[f"oracle of {SEARCHED}"]) == SEARCHED
    assert all(plan.candidates == 1 and not plan.probe_learning_rates for plan in plans)
