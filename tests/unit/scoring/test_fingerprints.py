"""When two fingerprints are of one model, on sketches whose cosine can be told by looking."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.domain.evaluation import Fingerprint
from gradients.scoring.fingerprints import Likeness, same_model, similarity

EAST, NORTH = (1.0, 0.0), (0.0, 1.0)
LIKENESS = Likeness(update=0.95, outputs=0.99)


def _at(cosine: float) -> tuple[float, float]:
    """A direction that has this cosine with EAST."""
    return cosine, math.sqrt(1 - cosine**2)


@pytest.mark.parametrize("cosine", [-1.0, 0.0, 0.3, 0.949, 0.95, 1.0])
def test_the_cosine_of_two_directions_whatever_their_lengths(cosine: float) -> None:
    assert similarity(EAST, _at(cosine)) == pytest.approx(cosine, abs=1e-12)
    assert similarity([2.0, 0.0], [5 * number for number in _at(cosine)]) == pytest.approx(cosine, abs=1e-12)


def test_nothing_is_like_nothing_and_like_nothing_else() -> None:
    assert similarity((), ()) == similarity((), EAST) == similarity((0.0, 0.0), EAST) == similarity((1.0,), EAST) == 0.0
    assert same_model(Fingerprint(()), Fingerprint(())) is None
    assert similarity((1.0, 0.0, 0.0), EAST) == similarity(EAST, (1.0, 0.0, 0.0)) == 0.0
    assert same_model(None, None) is None
    assert same_model(Fingerprint(EAST, EAST), None) is None


@pytest.mark.parametrize(
    ("update", "outputs", "evidence"),
    [
        (0.96, 0.0, "their updates of the base point the same way (cosine 0.9600)"),
        (0.0, 0.995, "their outputs differ from the base's in the same way (cosine 0.9950)"),
        (0.96, 0.995, "their updates of the base point the same way (cosine 0.9600)"),
        (0.94, 0.98, None),
        (-1.0, -1.0, None),
    ],
)
def test_either_cosine_is_evidence_and_the_update_is_named_first(
    update: float, outputs: float, evidence: str | None
) -> None:
    ours, theirs = Fingerprint(EAST, EAST), Fingerprint(_at(update), _at(outputs))
    assert same_model(ours, theirs, likeness=LIKENESS) == same_model(theirs, ours, likeness=LIKENESS) == evidence


def test_a_cosine_at_the_limit_is_evidence() -> None:
    exactly = Likeness(update=1.0, outputs=1.0)
    assert same_model(Fingerprint(EAST, NORTH), Fingerprint(EAST, EAST), likeness=exactly) is not None
    assert same_model(Fingerprint(EAST, NORTH), Fingerprint(NORTH, NORTH), likeness=exactly) is not None


def test_rounding_takes_no_cosine_beyond_one() -> None:
    ours = (2.0, 8.0, 8.0)  # whose cosine with itself comes to 1 + 2e-16
    assert similarity(ours, ours) == 1.0
    assert similarity(ours, [-number for number in ours]) == -1.0


def test_the_calibrated_thresholds_hold_where_none_are_given() -> None:
    limit = Likeness().update
    assert same_model(Fingerprint(EAST), Fingerprint(_at(limit + 1e-6))) is not None
    assert same_model(Fingerprint(EAST), Fingerprint(_at(limit - 1e-6))) is None


@given(st.lists(st.tuples(*[st.floats(-1, 1, allow_subnormal=False)] * 2), min_size=1, max_size=20))
def test_a_cosine_is_symmetric_and_between_minus_one_and_one(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    found = similarity(ours, theirs)
    assert found == similarity(theirs, ours)
    assert -1 <= found <= 1
    assert similarity(ours, ours) == pytest.approx(1.0) if any(ours) else similarity(ours, ours) == 0.0
