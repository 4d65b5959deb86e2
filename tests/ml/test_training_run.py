"""The loop's rules, on a model of one weight and a clock that only moves when somebody works."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from torch import nn

from gradients.errors import JobFailed
from gradients.ml.checkpoint import CheckpointFile
from gradients.ml.search import PATIENCE
from gradients.ml.telling import Outcome, TrainingProgress
from gradients.ml.training import TrainingRun, TrainingSettings
from gradients.tasks.jobs.training import TrainingPlan


class Slope:
    """An objective whose loss is the weight itself: its gradient is 1, so that AdamW moves the weight by the learning rate."""

    def __init__(self, *, rows: int = 1000, step_seconds: float = 0.1, validation_seconds: float = 0.5) -> None:
        self.lengths: Sequence[int] = [5] * rows
        self.time = 1000.0
        self.step_seconds = step_seconds
        self.validation_seconds = validation_seconds
        self.weights: list[float] = []  # before each step
        self.seen: list[int] = []
        self.validated: list[float] = []  # weights at each validation, the base's first
        self.loss_of: Callable[[float], float] = lambda weight: weight
        self.fail_at: int | None = None
        self.scale = 1.0

    def now(self) -> float:
        return self.time

    def backward(self, model: nn.Module, rows: Sequence[int]) -> float:
        if len(self.weights) == self.fail_at:
            raise InterruptedError("killed")
        [weight] = model.parameters()
        self.weights.append(weight.item())
        self.seen += rows
        (weight.sum() * self.scale).backward()
        self.time += self.step_seconds
        return self.loss_of(weight.item())

    def validate(self, model: nn.Module) -> float | None:
        self.time += self.validation_seconds
        [weight] = model.parameters()
        self.validated.append(weight.item())
        return self.loss_of(weight.item())

    def starts(self) -> list[int]:
        """Steps before which the weight was the model's own; the very first step, whose length is unknown, is made at rate 0."""
        return [step for step, weight in enumerate(self.weights) if weight == 5.0 and step != 1]

    def rates(self) -> list[float]:
        """The learning rate of each step but the last."""
        return [before - after for before, after in zip(self.weights, self.weights[1:], strict=False)]


class Unvalidated(Slope):
    """Keeps no rows for validation."""

    def validate(self, model: nn.Module) -> float | None:
        return None


def settings(**changes: object) -> TrainingSettings:
    plan = {
        "recipe": "test",
        "method": "full",
        "learning_rate": 0.1,
        "warmup_fraction": 0.0,
        "max_epochs": 1e6,
    } | changes
    return TrainingSettings(**TrainingPlan.model_validate(plan).model_dump(exclude={"recipe", "options"}))


def make_model() -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 5.0)
    return model


def run(
    objective: Slope,
    folder: Path,
    *,
    model: nn.Module | None = None,
    seconds: float = 60.0,
    told: list[TrainingProgress] | None = None,
    **changes: object,
) -> Outcome:
    return training_run(objective, folder, model=model, seconds=seconds, told=told, **changes).run()


def training_run(
    objective: Slope,
    folder: Path,
    *,
    model: nn.Module | None = None,
    seconds: float = 60.0,
    told: list[TrainingProgress] | None = None,
    **changes: object,
) -> TrainingRun:
    return TrainingRun(
        model or make_model(),
        objective,
        settings(**changes),
        seed=1,
        deadline=1000.0 + seconds,
        checkpoints=CheckpointFile(folder, "digest"),
        report=(told if told is not None else []).append,
        now=objective.now,
    )


def weight_of(model: nn.Module) -> float:
    [weight] = model.parameters()
    return float(weight.item())


def test_settings_are_the_plans_fields_less_its_recipe_and_options() -> None:
    assert set(TrainingSettings.__dataclass_fields__) == set(TrainingPlan.model_fields) - {"recipe", "options"}


def test_the_rate_falls_in_a_straight_line_to_zero_at_the_end_of_the_time(tmp_path: Path) -> None:
    objective = Slope(validation_seconds=0.0)
    run(objective, tmp_path)
    rates = objective.rates()
    # 60 s less 1.2 s to spare are 588 steps of 0.1 s; each step's rate is that of its middle
    assert len(rates) == pytest.approx(587, abs=2)
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert rates[len(rates) // 2] == pytest.approx(0.05, rel=0.01)
    assert 0 < rates[-1] < 0.0005


def test_the_rate_falls_to_zero_where_the_epochs_end_when_that_is_sooner(tmp_path: Path) -> None:
    objective = Slope(rows=80)
    outcome = run(objective, tmp_path, max_epochs=2.5, batch_rows=8)
    assert outcome.rows_seen == 200
    assert outcome.steps == 25
    assert objective.rates()[12] == pytest.approx(0.05, rel=0.01)
    assert objective.time < 1060 - 30


@pytest.mark.parametrize("step_seconds", [0.05, 0.5, 7.0])
def test_training_choosing_and_saving_end_before_the_deadline(tmp_path: Path, step_seconds: float) -> None:
    objective = Slope(step_seconds=step_seconds, validation_seconds=2.0)
    run(objective, tmp_path)
    assert 1060 - 5 - step_seconds < objective.time < 1060


def test_steps_that_become_slow_cost_steps_and_not_the_deadline(tmp_path: Path) -> None:
    objective = Slope(step_seconds=0.1)

    def slower(weight: float) -> float:
        objective.step_seconds = min(4.0, objective.step_seconds * 1.02)
        return weight

    objective.loss_of = slower
    run(objective, tmp_path)
    assert objective.time < 1060


def test_the_best_weights_are_handed_in_not_the_last(tmp_path: Path) -> None:
    objective, model = Slope(), make_model()
    objective.loss_of = lambda weight: abs(weight - 1.0)  # the slope leads from 5 past 1 to far below
    outcome = run(objective, tmp_path, model=model)
    assert min(objective.weights) < -5
    assert outcome.validation_loss is not None
    assert abs(weight_of(model) - 1.0) == pytest.approx(outcome.validation_loss)
    assert outcome.validation_loss < 3


def test_a_run_that_only_gets_worse_says_so_and_hands_in_its_least_harmful_weights(tmp_path: Path) -> None:
    objective, model = Slope(), make_model()
    objective.loss_of = lambda weight: 10.0 - weight
    outcome = run(objective, tmp_path, model=model)
    assert outcome.beats_base is False
    assert outcome.base_validation_loss == 5.0
    assert outcome.validation_loss == pytest.approx(10.0 - weight_of(model))
    assert weight_of(model) != 5.0
    assert weight_of(model) == pytest.approx(max(objective.validated[1:]))


def test_a_run_that_gets_better_beats_the_base(tmp_path: Path) -> None:
    outcome = run(Slope(), tmp_path)
    assert outcome.beats_base is True
    assert outcome.base_validation_loss == 5.0


def test_the_bases_loss_outlives_a_kill(tmp_path: Path) -> None:
    first, second = Slope(), Slope()
    first.loss_of = second.loss_of = lambda weight: 10.0 - weight
    first.fail_at = 333
    with pytest.raises(InterruptedError):
        run(first, tmp_path)
    second.time = first.time
    outcome = run(second, tmp_path)
    assert (outcome.base_validation_loss, outcome.beats_base) == (5.0, False)


def test_validations_are_placed_by_steps_that_are_really_made(tmp_path: Path) -> None:
    objective, model = Slope(rows=80), make_model()
    objective.loss_of = lambda weight: abs(weight - 4.0)  # reached in the third of ten epochs
    outcome = run(objective, tmp_path, model=model, max_epochs=10, seconds=3600.0)
    # the base, and 12 over 100 steps, though these are 10 s of an hour
    assert len(objective.validated) == 13
    assert outcome.rows_seen == 800
    assert outcome.validation_loss == min(map(objective.loss_of, objective.validated))
    assert outcome.validation_loss < 0.5 < objective.loss_of(objective.weights[-1])


@pytest.mark.parametrize(("validation_seconds", "count"), [(0.1, 12), (1.0, 4), (4.0, 1)])
def test_validating_costs_at_most_a_tenth_of_the_time(tmp_path: Path, validation_seconds: float, count: int) -> None:
    objective = Slope(validation_seconds=validation_seconds)
    run(objective, tmp_path)
    assert len(objective.validated) - 1 == count


def test_without_validation_rows_the_last_weights_are_handed_in(tmp_path: Path) -> None:
    objective, model = Unvalidated(), make_model()
    outcome = run(objective, tmp_path, model=model)
    assert (outcome.validation_loss, outcome.base_validation_loss, outcome.beats_base) == (None, None, None)
    assert weight_of(model) < min(objective.weights)


def test_the_learning_rate_that_does_best_for_a_while_is_taken_from_the_start(tmp_path: Path) -> None:
    objective = Slope()
    objective.loss_of = lambda weight: abs(weight - 2.0)  # 10 steps of 0.001 get nowhere, of 1 far too far
    outcome = run(objective, tmp_path, probe_learning_rates=(0.001, 0.05, 1.0))
    assert outcome.learning_rate == 0.05
    _, second, third, main = objective.starts()
    assert main - third == third - second  # what the rates are compared by
    assert (
        objective.seen[8 * main :][:80] == objective.seen[:80]
    )  # the main run has its own rows, from the first one on
    assert outcome.steps == len(objective.weights) - main
    assert objective.time < 1060


def test_a_probe_lasts_its_share_of_the_epochs_when_these_end_the_run(tmp_path: Path) -> None:
    objective = Slope(rows=200)
    outcome = run(objective, tmp_path, probe_learning_rates=(0.01, 0.02), probe_fraction=0.1, max_epochs=3, seconds=9e5)
    assert outcome.rows_seen == 600
    _, second, main = objective.starts()
    # a tenth of 600 rows is 60, which are 7 whole batches of 8
    assert (second, main - second) == (7, 7)


def test_all_probes_together_take_a_small_share_of_the_time_when_it_ends_the_run(tmp_path: Path) -> None:
    objective = Slope()
    run(objective, tmp_path, probe_learning_rates=(0.01, 0.02, 0.03, 0.04), probe_fraction=0.25, seconds=300.0)
    main = objective.starts()[-1]
    # 8 % of 293 s are 23.4 s, 5.9 s for each probe, of which validating takes 0.5: 54 steps
    assert main == pytest.approx(4 * 54, abs=4)


def test_where_probing_is_held_up_the_plans_own_rate_is_trained_with(tmp_path: Path) -> None:
    objective = Slope(step_seconds=20.0, validation_seconds=0.0)
    outcome = run(objective, tmp_path, learning_rate=0.2, probe_learning_rates=(0.1, 0.2, 0.3))
    assert outcome.learning_rate == 0.2  # after one rate a third of the time is gone
    assert outcome.steps > 0
    assert objective.time < 1060


def test_a_rate_that_diverges_loses(tmp_path: Path) -> None:
    objective = Slope()
    objective.loss_of = lambda weight: math.nan if weight < 4.0 else weight
    outcome = run(objective, tmp_path, probe_learning_rates=(0.5, 0.0001), max_epochs=0.5)
    assert outcome.learning_rate == 0.0001


def test_a_killed_run_goes_on_from_its_checkpoint_with_the_rows_it_has_not_seen(tmp_path: Path) -> None:
    whole, first, second = Slope(), Slope(), Slope()
    outcome = run(whole, tmp_path / "whole")
    first.fail_at = 333
    with pytest.raises(InterruptedError):
        run(first, tmp_path / "cut")
    second.time = first.time
    resumed = run(second, tmp_path / "cut")
    redone = 333 + len(second.weights) - resumed.steps
    assert 0 <= redone <= 25  # checkpoints are 2 s, 20 steps, apart
    assert second.weights[0] == first.weights[333 - redone]
    both = min(len(second.seen), len(whole.seen) - 8 * (333 - redone))
    assert both > 8 * 200
    assert second.seen[:both] == whole.seen[8 * (333 - redone) :][:both]
    assert resumed.steps == pytest.approx(outcome.steps, abs=redone + 10)
    assert second.rates()[-1] < 0.001


def test_a_run_killed_between_probes_does_not_repeat_the_finished_ones(tmp_path: Path) -> None:
    first, second = Slope(), Slope()
    rates = (0.01, 0.02, 0.03)
    first.fail_at = 15  # a probe is about 10 steps
    with pytest.raises(InterruptedError):
        run(first, tmp_path, probe_learning_rates=rates)
    second.time = first.time
    outcome = run(second, tmp_path, probe_learning_rates=rates)
    assert outcome.learning_rate == 0.03
    assert len(second.starts()) == 2  # the third probe and the main run; the second one went on


def test_a_run_killed_in_a_long_probe_goes_on_in_it(tmp_path: Path) -> None:
    first, second = Slope(step_seconds=0.5), Slope(step_seconds=0.5)
    rates = (0.001, 0.002)
    first.fail_at = 102  # a probe is about 234 steps
    with pytest.raises(InterruptedError):
        run(first, tmp_path, probe_learning_rates=rates, seconds=3000.0)
    second.time = first.time + 60  # a pause, which takes nothing from the probe
    run(second, tmp_path, probe_learning_rates=rates, seconds=3000.0)
    redone = first.weights.index(second.weights[0])
    assert 98 <= redone < 102  # checkpoints are 2 s, 4 steps, apart
    second_probe, main = second.starts()
    assert redone + second_probe == pytest.approx(main - second_probe, abs=2)


def test_steps_along_nan_are_left_out(tmp_path: Path) -> None:
    objective, model = Slope(), make_model()

    def poison_some(weight: float) -> float:
        objective.scale = math.nan if len(objective.weights) % 3 == 0 else 1.0
        return weight

    objective.loss_of = poison_some
    run(objective, tmp_path, model=model)
    assert math.isfinite(weight_of(model))
    assert all(map(math.isfinite, objective.weights))


def test_a_run_without_a_single_good_step_has_failed(tmp_path: Path) -> None:
    objective = Slope()
    objective.scale = math.inf
    with pytest.raises(JobFailed) as caught:
        run(objective, tmp_path)
    assert caught.value.code == "diverged"


def test_a_budget_too_short_for_a_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JobFailed) as caught:
        run(Slope(), tmp_path, seconds=1.2)
    assert caught.value.code == "budget_too_short"


def test_progress_is_told_twice_a_second_and_grows(tmp_path: Path) -> None:
    told: list[TrainingProgress] = []
    run(Slope(), tmp_path, told=told, probe_learning_rates=(0.01, 0.02))
    assert 60 < len(told) <= 120
    assert [progress.fraction for progress in told] == sorted(progress.fraction for progress in told)
    assert {progress.phase for progress in told} == {"probing", "training"}


def test_what_is_told_has_rates_validations_probes_and_runs_of_the_search(tmp_path: Path) -> None:
    objective, told = Slope(rows=80), list[TrainingProgress]()
    objective.loss_of = lambda weight: abs(weight - 1.0)
    outcome = run(objective, tmp_path, told=told, probe_learning_rates=(0.01, 0.02), max_epochs=3, candidates=100)
    probing, training = ([each for each in told if each.phase == phase] for phase in ("probing", "training"))
    assert {each.run for each in probing} == {0, 1}
    assert max(each.learning_rate or 0.0 for each in probing) == 0.02
    assert {each.ended.learning_rate for each in probing if each.ended} == {0.01}
    assert {each.base_loss for each in told} == {4.0}  # the weight begins at 5
    assert {each.run for each in training} >= {0, 1, 2}
    assert {each.ended.batch_rows is None for each in training if each.run == 0 and each.ended} == {True}
    assert {each.ended.epochs for each in training if each.run == 1 and each.ended} == {3.0}
    best = [each.best_loss for each in training if each.best_loss is not None]
    assert best == sorted(best, reverse=True)
    assert best[-1] >= (outcome.validation_loss or 0.0)
    assert any(each.validation_loss is not None for each in training)


def test_the_last_report_counts_the_steps_of_every_run_once(tmp_path: Path) -> None:
    objective = Slope(rows=80)
    made = training_run(objective, tmp_path, max_epochs=3)
    outcome = made.run()
    last = made.progress("saving", 1.0)
    assert (last.step, last.run, last.best_loss) == (outcome.steps, 1, outcome.validation_loss)


def test_weight_decay_spares_what_is_no_matrix(tmp_path: Path) -> None:
    class Flat(Slope):
        def backward(self, model: nn.Module, rows: Sequence[int]) -> float:
            sum(weight.sum() * 0 for weight in model.parameters()).backward()
            self.time += 1
            return 1.0

        def validate(self, model: nn.Module) -> float | None:
            return None

    model = nn.Linear(1, 1)
    nn.init.ones_(model.weight)
    nn.init.ones_(model.bias)
    run(Flat(), tmp_path, model=model, weight_decay=0.1)
    assert model.bias.item() == 1.0
    assert model.weight.item() < 0.9


def test_rates_are_compared_after_the_same_rows_even_when_the_first_steps_are_slow(tmp_path: Path) -> None:
    objective = Slope(step_seconds=2.0)

    def fast_from_the_third_step_on(weight: float) -> float:
        objective.step_seconds = 0.1 if len(objective.weights) > 2 else 2.0
        return weight

    objective.loss_of = fast_from_the_third_step_on
    run(objective, tmp_path, probe_learning_rates=(0.01, 0.02, 0.03), seconds=300.0)
    _, second, third, main = objective.starts()
    assert second == third - second == main - third


# Further runs, while time is left


def test_time_that_epochs_leave_is_used_to_search_and_the_best_run_is_handed_in(tmp_path: Path) -> None:
    alone, searched, model = Slope(rows=80), Slope(rows=80), make_model()
    told: list[TrainingProgress] = []
    alone.loss_of = searched.loss_of = lambda weight: abs(weight - 1.0)  # 30 steps at a mean rate of 0.005 get to 4.85
    once = run(alone, tmp_path / "alone", learning_rate=0.01, max_epochs=3)
    many = run(
        searched, tmp_path / "searched", model=model, told=told, learning_rate=0.01, max_epochs=3, candidates=100
    )
    for grows in ([each.step for each in told], [each.fraction for each in told]):
        assert grows == sorted(grows)
    assert (once.candidates, alone.time < 1010) == (1, True)
    assert many.candidates > 3
    assert 1060 - 0.05 * 60 <= searched.time < 1060
    assert once.validation_loss is not None
    assert many.validation_loss is not None
    assert many.validation_loss < 3.2 < 3.8 < once.validation_loss
    assert abs(weight_of(model) - 1.0) == pytest.approx(many.validation_loss)
    assert many.learning_rate > 0.01 or many.epochs > 3.0


def test_a_search_that_brings_nothing_ends_before_its_time(tmp_path: Path) -> None:
    objective = Slope(rows=80)
    objective.loss_of = lambda weight: 2.0 if weight == 5.0 else 1.0  # any step at all is as good as any other
    outcome = run(objective, tmp_path, max_epochs=3, candidates=100, seconds=9e5)
    assert outcome.candidates == 1 + PATIENCE
    assert outcome.validation_loss == 1.0


def test_no_more_runs_are_made_than_the_plan_allows(tmp_path: Path) -> None:
    objective = Slope(rows=80)
    assert run(objective, tmp_path, learning_rate=1e-4, max_epochs=1, candidates=3).candidates == 3


def test_without_validation_rows_there_is_nothing_to_search_by(tmp_path: Path) -> None:
    assert run(Unvalidated(rows=80), tmp_path, max_epochs=1, candidates=100).candidates == 1


def test_a_run_that_gets_worse_and_worse_is_given_up_for_the_next(tmp_path: Path) -> None:
    objective = Slope(rows=800)
    objective.loss_of = lambda weight: abs(weight - 3.0)  # passed in the first quarter of 300 steps
    outcome = run(objective, tmp_path, max_epochs=3, candidates=2, seconds=3000.0, learning_rate=0.05)
    assert outcome.candidates == 2
    assert len(objective.seen) < 2400 + 1200


class TwoWays(Slope):
    """Two weights at 2, of which runs move now the one and now the other; the loss is the sum of their squares."""

    def backward(self, model: nn.Module, rows: Sequence[int]) -> float:
        [weight] = model.parameters()
        if weight.tolist() == [[2.0, 2.0]]:
            self.starts_seen += 1
        weight[0, self.starts_seen % 2].backward()
        self.time += self.step_seconds
        return 1.0

    def validate(self, model: nn.Module) -> float | None:
        self.time += self.validation_seconds
        [weight] = model.parameters()
        return float(weight.square().sum().item())

    starts_seen = 0


def test_the_mean_of_two_runs_is_handed_in_when_the_kept_rows_say_so(tmp_path: Path) -> None:
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, 2.0)
    outcome = run(TwoWays(rows=80), tmp_path, model=model, learning_rate=0.15, max_epochs=2, candidates=2)
    assert outcome.validation_loss is not None
    [weight] = model.parameters()
    first, second = weight[0].tolist()
    assert outcome.averaged == 2
    assert 0 < first < 2.0
    assert 0 < second < 2.0
    # a run alone leaves one of the weights at 2: 4 or more
    assert outcome.validation_loss == pytest.approx(first**2 + second**2)
    assert outcome.validation_loss < 3


@pytest.mark.parametrize(
    ("valley", "whole", "way"),
    [
        pytest.param(0.95, True, 1.0, id="the end"),
        pytest.param(0.85, False, 1.0, id="the mean of points"),
        pytest.param(0.7, False, 0.8, id="four fifths of the way to it"),
    ],
)
def test_the_mean_of_a_runs_points_and_less_of_the_way_are_handed_in_where_the_kept_rows_say_so(
    tmp_path: Path, valley: float, whole: bool, way: float
) -> None:
    # so little time that one run fits, which is validated once: at its end
    straight, objective, model = Slope(validation_seconds=0.15), Slope(validation_seconds=0.15), make_model()
    run(straight, tmp_path / "straight", seconds=8.0, candidates=2)
    base, end, mean, _ = straight.validated
    # At n = 1 to 11 twelfths of the run its falling rate has left (1 - n/12)^2 of the way; counted n times, that is 0.181 on the mean.
    assert (mean - base) / (end - base) == pytest.approx(1 - 0.181, abs=0.02)
    objective.loss_of = lambda weight: abs(weight - base - valley * (end - base))
    outcome = run(objective, tmp_path / "curved", model=model, seconds=8.0, candidates=2)
    chosen = base + way * ((end if whole else mean) - base)
    assert (outcome.candidates, outcome.way) == (1, way)
    assert weight_of(model) == pytest.approx(chosen, abs=1e-4)
    assert outcome.validation_loss == pytest.approx(objective.loss_of(chosen), abs=1e-4)
    assert objective.time < 1008


def test_a_killed_run_keeps_the_points_that_its_mean_is_taken_of(tmp_path: Path) -> None:
    first, second = Slope(validation_seconds=0.15), Slope(validation_seconds=0.15)
    first.fail_at = 55  # of about 62 steps
    with pytest.raises(InterruptedError):
        run(first, tmp_path, seconds=8.0, candidates=2)
    second.time = first.time
    run(second, tmp_path, seconds=8.0, candidates=2)
    _, end, mean, _ = second.validated
    assert mean > second.weights[0] > end  # most of its points lie before the step that it went on with


def test_where_validating_is_dear_no_time_is_kept_to_look_at_other_weights(tmp_path: Path) -> None:
    once, searching = Slope(validation_seconds=2.0), Slope(validation_seconds=2.0)
    run(once, tmp_path / "once", seconds=30.0)
    run(searching, tmp_path / "searching", seconds=30.0, candidates=100)
    assert len(searching.weights) == len(once.weights)


def test_a_search_that_was_killed_goes_on_with_the_runs_that_it_has_not_made(tmp_path: Path) -> None:
    def objective() -> Slope:
        made = Slope(rows=80)
        made.loss_of = lambda weight: abs(weight - 1.0)
        return made

    whole, first, second = objective(), objective(), objective()

    def search(objective: Slope, folder: Path) -> Outcome:
        return run(objective, folder, learning_rate=0.01, max_epochs=3, candidates=100)

    outcome = search(whole, tmp_path / "whole")
    first.fail_at = 300
    with pytest.raises(InterruptedError):
        search(first, tmp_path / "cut")
    second.time = first.time
    resumed = search(second, tmp_path / "cut")
    assert len(first.weights) + len(second.weights) <= len(whole.weights) + 25  # checkpoints are 20 steps apart
    assert resumed.validation_loss == pytest.approx(outcome.validation_loss, abs=0.3)
    assert second.time < 1060
