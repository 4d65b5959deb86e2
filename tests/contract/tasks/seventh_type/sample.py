"""Sentences about things at places."""

from __future__ import annotations

from gradients.testing.task_samples import TaskSample

_NOUNS = ("harbour", "anvil", "meadow", "lantern", "quarry", "saddle", "turret", "willow", "ferry", "orchard")
_PLACES = ("by the sea", "in a smithy", "under open sky", "on a tower", "behind the mill")
_COLOURS = ("red", "blue", "green", "grey", "white", "brown", "black", "golden", "silver", "violet")

SAMPLE = TaskSample(
    rows=[
        {
            "text": f"The {_COLOURS[number // 10]} {_NOUNS[number % 10]} of house number {number} stands {_PLACES[number % 5]}, "
            f"and nobody has ever seen {_NOUNS[number // 10]} or {_COLOURS[number % 10]} lamp number {number} there."
        }
        for number in range(100)
    ],
    wrong_type={"text": ["The", "red", "harbour"]},
    huge={"text": "x" * 300_000},
    empty={"text": "  "},
    near={
        "text": "Now the red harbour of house number 0 stands by the sea, "
        "and nobody has ever seen harbour or red lamp number 0 there."
    },
    plan={"method": "lora", "learning_rate": 1e-2, "max_epochs": 2.0},
)
