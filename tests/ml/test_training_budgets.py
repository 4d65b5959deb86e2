"""Runs under the hours that tasks really give, for bases of every size: see scripts/benchmarks/budgets.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.benchmarks.budgets import BASES, Modelled, run, slow_to_learn


@pytest.mark.parametrize("gpus", [None, 1], ids=["the rule's GPUs", "one GPU"])
@pytest.mark.parametrize("rows", [2_000, 10_000])
@pytest.mark.parametrize("base", BASES)
def test_the_bulk_of_the_useful_rows_lies_in_the_decaying_main_run(
    tmp_path: Path, base: str, rows: int, gpus: int | None
) -> None:
    rates = (0.005, 0.01, 0.02)
    case = run(tmp_path, parameters=BASES[base], rows=rows, gpus=gpus, probe_learning_rates=rates)
    assert case.outcome.steps > 0
    assert case.outcome.rows_seen >= 0.8 * case.useful_rows
    assert case.outcome.learning_rate in rates
    assert case.objective.seen <= 1.25 * case.useful_rows
    assert case.seconds_left > 0


@pytest.mark.parametrize("rows", [2_000, 10_000])
@pytest.mark.parametrize("base", BASES)
def test_every_run_has_several_points_to_choose_from(tmp_path: Path, base: str, rows: int) -> None:
    case = run(tmp_path, parameters=BASES[base], rows=rows, gpus=1)
    validations = len(case.objective.validated) - 1
    assert 4 <= validations <= 12
    training_seconds = case.outcome.rows_seen * case.objective.seconds_per_row
    assert (validations - 1) * case.objective.validation_seconds <= 0.11 * training_seconds


def test_ten_epochs_of_few_rows_hand_in_the_best_validated_point(tmp_path: Path) -> None:
    case = run(tmp_path, parameters=BASES["0.1B"], rows=2_000, max_epochs=10.0)
    best = min(case.objective.validated)
    assert case.outcome.rows_seen == 10 * len(case.objective.lengths)
    [weight] = case.model.parameters()
    assert case.objective.loss_of(weight.item()) == case.outcome.validation_loss == best
    assert best < 0.3 * case.objective.validated[-1]  # the last point is far past the valley
    assert case.outcome.beats_base is True


def test_a_model_that_only_gets_worse_than_the_base_says_so(tmp_path: Path) -> None:
    def worsening(objective: Modelled) -> None:
        objective.loss_of = lambda weight: 2.0 - weight

    case = run(tmp_path, parameters=BASES["0.1B"], rows=2_000, max_epochs=10.0, change=worsening)
    base_loss, *losses = case.objective.validated
    assert case.outcome.beats_base is False
    assert case.outcome.base_validation_loss == base_loss
    assert case.outcome.validation_loss == min(losses) > base_loss


@pytest.mark.parametrize("rows", [2_000, 10_000])
@pytest.mark.parametrize("base", ["7.6B", "13B", "70B"])  # smaller ones make so many steps that scripts/bench has them
def test_hardly_any_of_the_hours_is_unused_while_further_runs_bring_something(
    tmp_path: Path, base: str, rows: int
) -> None:
    case = run(tmp_path, parameters=BASES[base], rows=rows, gpus=1, candidates=1000, change=slow_to_learn)
    assert 0 < case.seconds_left < 0.05 * case.seconds
    assert case.outcome.beats_base is True
