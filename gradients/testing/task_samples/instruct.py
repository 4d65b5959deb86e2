"""Questions with answers of a fixed form."""

from __future__ import annotations

from gradients.testing.task_samples import TaskSample

_NOUNS = ("harbour", "anvil", "meadow", "lantern", "quarry", "saddle", "turret", "willow", "ferry", "orchard")
_PLACES = ("by the sea", "in a smithy", "under open sky", "on a tower", "behind the mill")
_COLOURS = ("red", "blue", "green", "grey", "white", "brown", "black", "golden", "silver", "violet")

SAMPLE = TaskSample(
    rows=[
        {
            "instruction": f"Where is the {_COLOURS[number // 10]} {_NOUNS[number % 10]} of house number {number}?",
            "output": f"The {_NOUNS[number % 10]} number {number} stands {_PLACES[number % 5]}.",
        }
        for number in range(100)
    ],
    wrong_type={"instruction": "Where?", "output": ["here", "there"]},
    huge={"instruction": "Where?", "output": "x" * 300_000},
    empty={"instruction": "Where?", "output": "  "},
    near={
        "instruction": "Say where is the red harbour of house number 0?",
        "output": "The harbour number 0 stands by the sea.",
    },
    beside={"instruction": "where is the red harbour of HOUSE number 0", "output": "Nobody has ever found out."},
    plan={"method": "lora", "learning_rate": 1e-2, "max_epochs": 10.0},
)
