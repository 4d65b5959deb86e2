"""Questions whose answers are good when they are short and have an "e"."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from gradients.testing.task_samples import TaskSample

_NOUNS = ("harbour", "anvil", "meadow", "lantern", "quarry", "saddle", "turret", "willow", "ferry", "orchard")
_COLOURS = ("red", "blue", "green", "grey", "white", "brown", "black", "golden", "silver", "violet")


def _parameters(_: Path) -> Mapping[str, JsonValue]:
    return {
        "columns": {"prompt": "question"},
        "rewards": [
            {"kind": "length", "unit": "characters", "at_least": 1, "at_most": 6, "weight": 2},
            {"kind": "regular_expression", "pattern": "e"},
        ],
        "max_new_tokens": 16,
        "samples": 2,
    }


SAMPLE = TaskSample(
    rows=[
        {"question": f"Where is the {_COLOURS[number // 10]} {_NOUNS[number % 10]} of house number {number}?"}
        for number in range(100)
    ],
    wrong_type={"question": ["Where", "is", "it?"]},
    huge={"question": "x" * 300_000},
    empty={"question": "  "},
    near={"question": "where is the red harbour of house number 0"},
    plan={"method": "lora", "learning_rate": 1e-2, "max_epochs": 3.0, "options": {"answers": 4}},
    parameters=_parameters,
)
