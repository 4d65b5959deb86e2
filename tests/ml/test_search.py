"""Which run comes next, and which run is given up."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.ml.search import PATIENCE, Candidate, Curve, Trial, is_lost, propose

FIRST = Candidate(learning_rate=1e-3, batch_rows=8, epochs=3.0)
STEADY: Curve = ((0.25, 3.0), (0.5, 2.6), (0.75, 2.3), (1.0, 2.0))


def trial(candidate: Candidate = FIRST, *, curve: Curve = STEADY, helped: bool = True) -> Trial:
    loss = min((loss for _, loss in curve), default=math.inf)
    return Trial(
        candidate=candidate,
        loss=loss,
        curve=curve,
        steps=1,
        rows=8,
        passes=candidate.epochs,
        seconds=1.0,
        train_loss=1.0,
        helped=helped,
    )


def proposed(*trials: Trial, room: float = 100.0, base_loss: float = 4.0) -> Candidate:
    candidate = propose(trials, base_loss=base_loss, room=room)
    assert candidate is not None
    return candidate


def changed(candidate: Candidate) -> dict[str, object]:
    return {name: value for name, value in candidate if value != getattr(FIRST, name) and name != "order"}


def test_a_run_that_was_still_getting_better_is_made_longer() -> None:
    assert changed(proposed(trial())) == {"epochs": 7.5}


def test_a_longer_run_is_as_long_as_the_time_that_is_left() -> None:
    assert changed(proposed(trial(), room=5.0)) == {"epochs": 5.0}


def test_a_run_that_was_best_half_way_is_made_so_much_shorter() -> None:
    overfit: Curve = ((0.25, 3.0), (0.5, 2.0), (0.75, 2.1), (1.0, 2.4))
    assert changed(proposed(trial(curve=overfit))) == {"epochs": 1.5}


def test_a_run_that_was_best_shortly_before_its_end_keeps_its_length() -> None:
    nearly: Curve = ((0.5, 3.0), (0.8, 2.0), (1.0, 2.01))
    assert changed(proposed(trial(curve=nearly))) == {"learning_rate": 2e-3}


def test_a_run_that_does_harm_is_made_again_at_a_much_smaller_rate() -> None:
    harmful: Curve = ((0.5, 5.0), (1.0, 4.5))
    assert changed(proposed(trial(curve=harmful))) == {"learning_rate": 2.5e-4}


def test_a_run_that_diverged_is_made_again_at_a_much_smaller_rate() -> None:
    assert changed(proposed(trial(curve=((1.0, math.inf),)))) == {"learning_rate": 2.5e-4}


def test_where_no_whole_run_fits_in_the_best_weights_are_trained_on_gently() -> None:
    assert changed(proposed(trial(), room=1.0)) == {"learning_rate": 3e-4, "epochs": 1.0, "goes_on": True}


def test_a_sliver_of_time_is_left() -> None:
    assert propose([trial()], base_loss=4.0, room=0.2) is None


def test_the_best_run_from_the_bases_weights_is_what_the_next_one_differs_from() -> None:
    better: Curve = ((1.0, 1.5),)
    went_on = trial(FIRST.model_copy(update={"learning_rate": 3e-4, "goes_on": True}), curve=((1.0, 1.0),))
    halved = trial(FIRST.model_copy(update={"batch_rows": 4}), curve=better)
    assert changed(proposed(trial(), halved, went_on, room=7.5)) == {"batch_rows": 4, "epochs": 7.5}


def test_it_is_over_when_so_many_runs_in_a_row_brought_nothing() -> None:
    useless = [trial(helped=False)] * (PATIENCE - 1)
    assert propose([trial(), *useless], base_loss=4.0, room=100.0) is not None
    assert propose([trial(), *useless, useless[0]], base_loss=4.0, room=100.0) is None


def test_when_all_around_the_best_was_tried_it_is_made_again_in_another_order() -> None:
    trials = [trial()]
    while len({_hyper_parameters(each.candidate) for each in trials}) == len(trials):
        candidate = proposed(*trials)
        trials.append(trial(candidate, curve=((1.0, 3.0),)))
        assert len(trials) < 20
    again = trials[-1].candidate
    assert _hyper_parameters(again) == _hyper_parameters(FIRST)
    assert len({each.candidate.order for each in trials}) == len(trials)


def _hyper_parameters(candidate: Candidate) -> tuple[float, int, float]:
    return candidate.learning_rate, candidate.batch_rows, candidate.epochs


@given(best_rate=st.floats(-4, 0), best_epochs=st.floats(0, 1.5), first=st.floats(-4, 0), room=st.integers(3, 300))
def test_an_end_comes_and_no_doubling_of_the_best_rate_is_left_to_gain_when_time_is(
    best_rate: float, best_epochs: float, first: float, room: int
) -> None:
    """Over a bowl of the logarithms of rate and epochs."""

    def bowl(candidate: Candidate) -> float:
        rate, epochs = math.log10(candidate.learning_rate), math.log10(candidate.epochs)
        return 1.0 + (rate - best_rate) ** 2 + (epochs - best_epochs) ** 2

    trials, left = _search(FIRST.model_copy(update={"learning_rate": 10**first}), bowl, room=float(room))
    best = min((each for each in trials if not each.candidate.goes_on), key=lambda each: each.loss).candidate
    if left >= best.epochs:
        for factor in (0.5, 2.0):
            other = best.model_copy(update={"learning_rate": factor * best.learning_rate})
            assert bowl(other) >= 0.99 * bowl(best)


@pytest.mark.parametrize("first", [1e-5, 1e-4, 1e-2])
def test_a_rate_that_is_far_off_is_mended(first: float) -> None:
    def valley(candidate: Candidate) -> float:
        return 1.0 + abs(math.log2(candidate.learning_rate / 1e-3))

    trials, _ = _search(FIRST.model_copy(update={"learning_rate": first}), valley, room=300.0)
    assert min(each.loss for each in trials) < 1.6 < 4.0 < trials[0].loss


def _search(first: Candidate, loss_of: Callable[[Candidate], float], *, room: float) -> tuple[list[Trial], float]:
    """All runs until nothing more was proposed, and the room that was left then."""
    trials: list[Trial] = []
    candidate: Candidate | None = first
    while candidate is not None:
        loss = loss_of(candidate)
        assert len(trials) < 300
        helped = all(loss < other.loss for other in trials)
        trials.append(trial(candidate, curve=((0.5, loss + 1), (0.8, loss), (1.0, loss + 0.01)), helped=helped))
        room -= candidate.epochs
        candidate = propose(trials, base_loss=20.0, room=room)
        assert candidate is None or candidate.epochs <= room + 1e-9
    return trials, room


def test_a_run_that_has_turned_for_the_worse_twice_is_lost() -> None:
    falling: Curve = ((0.2, 3.0), (0.4, 2.0))
    assert not is_lost((*falling, (0.6, 2.5)), base_loss=4.0, champion=None)
    assert not is_lost((*falling, (0.6, 2.1), (0.8, 2.5)), base_loss=4.0, champion=None)
    # a tenth of what it gained, 0.2, is borne
    assert is_lost((*falling, (0.6, 2.3), (0.8, 2.5)), base_loss=4.0, champion=None)


def test_a_run_far_behind_the_best_is_lost_but_not_in_its_first_part() -> None:
    champion = trial()  # gained 2.0, of which a quarter may be lacking
    assert not is_lost(((0.25, 3.9),), base_loss=4.0, champion=champion)
    assert not is_lost(((0.25, 3.9), (0.5, 3.0)), base_loss=4.0, champion=champion)
    assert is_lost(((0.25, 3.9), (0.5, 3.2)), base_loss=4.0, champion=champion)


def test_a_run_without_validations_is_never_lost() -> None:
    assert not is_lost((), base_loss=4.0, champion=trial())
