"""What people see of results."""

from __future__ import annotations

import pytest
from rich.console import Console

from gradients.client.render import gain, result_table, task_table
from gradients.domain.evaluation import Better
from tests.unit.client.answers import miner, task


@pytest.mark.parametrize(
    ("base", "value", "better", "shown"),
    [
        (4.0, 3.0, "lower", "+25.0%"),
        (4.0, 5.0, "lower", "-25.0%"),
        (0.4, 0.5, "higher", "+25.0%"),
        (-0.4, -0.2, "higher", "+50.0%"),  # a mean reward less a penalty can be negative
        (0.0, 0.5, "higher", ""),  # no percentage of nothing
        (None, 0.5, "lower", ""),
        (4.0, None, "lower", ""),
    ],
)
def test_a_gain_is_positive_when_the_model_got_better(
    base: float | None, value: float | None, better: Better, shown: str
) -> None:
    assert gain(base, value, better=better) == shown


def test_a_miner_without_a_measurement_is_shown_with_its_reason() -> None:
    failed = miner(uid=4, rank=None, loss=None, stderr=None, points=0.0, reason="too_late: at block 9")
    console = Console(width=140, record=True)
    shown = task(miner(loss=3.0), failed, base_loss=4.0)
    console.print(result_table(shown, weights={3: 0.94}, incentive={}))
    text = console.export_text()
    assert "too_late: at block 9" in text
    assert "+25.0%" in text
    assert "94.0%" in text


def test_a_task_that_has_failed_says_why_in_the_list() -> None:
    failed = task(state="failed", rows=None, failure={"blame": "customer", "code": "too_few_rows", "message": "Only 3"})
    console = Console(width=140, record=True)
    console.print(task_table([failed]))
    assert "too_few_rows: Only 3" in console.export_text()
