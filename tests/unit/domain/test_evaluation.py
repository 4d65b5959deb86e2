"""How much better than the base a measurement is."""

from __future__ import annotations

import pytest

from gradients.domain.evaluation import Better, Measurement, Metric


@pytest.mark.parametrize(
    ("base", "value", "better", "gain"),
    [
        (4.0, 3.0, "lower", 0.25),
        (4.0, 5.0, "lower", -0.25),
        (0.4, 0.5, "higher", 0.25),
        (-0.4, -0.2, "higher", 0.5),  # a mean reward less a penalty can be negative
        (0.0, 0.5, "higher", None),  # no part of nothing
    ],
)
def test_a_gain_is_positive_when_the_model_got_better(
    base: float, value: float, better: Better, gain: float | None
) -> None:
    metric = Metric("metric", "unit", 1, better)
    ours, theirs = (
        Measurement(name, metric, value=mean, stderr=0.0, per_row=(mean,))
        for name, mean in (("ours", value), ("base", base))
    )
    assert ours.gain_over(theirs) == (None if gain is None else pytest.approx(gain))
