"""What people see of results."""

from __future__ import annotations

import pytest
from rich.console import Console

from gradients.client.render import gain, result_table
from gradients.domain.json import JsonObject


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
    base: float | None, value: float | None, better: str, shown: str
) -> None:
    assert gain(base, value, better=better) == shown


def test_a_miner_without_a_measurement_is_shown_with_its_reason() -> None:
    scored: JsonObject = {
        "uid": 3,
        "recipe": "lora-tuned",
        "rank": 1,
        "loss": 3.0,
        "points": 3.0,
        "reason": "best",
    }
    failed: JsonObject = {
        **scored,
        "uid": 4,
        "rank": None,
        "loss": None,
        "points": 0.0,
        "reason": "too_late: at block 9",
    }
    task: JsonObject = {
        "id": "instruct-1",
        "metric": {"name": "loss", "unit": "nats"},
        "better": "lower",
        "base_loss": 4.0,
        "miners": [scored, failed],
    }
    console = Console(width=140, record=True)
    console.print(result_table(task, weights={3: 0.94}, incentive={}))
    text = console.export_text()
    assert "too_late: at block 9" in text
    assert "+25.0%" in text
    assert "94.0%" in text
