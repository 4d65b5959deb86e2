"""Questions with a short and a wordy answer, of which the short one is preferred."""

from __future__ import annotations

from gradients.testing.task_samples import TaskSample

_NOUNS = ("harbour", "anvil", "meadow", "lantern", "quarry", "saddle", "turret", "willow", "ferry", "orchard")
_PLACES = ("by the sea", "in a smithy", "under open sky", "on a tower", "behind the mill")
_COLOURS = ("red", "blue", "green", "grey", "white", "brown", "black", "golden", "silver", "violet")

SAMPLE = TaskSample(
    rows=[
        {
            "prompt": f"Where is the {_COLOURS[number // 10]} {_NOUNS[number % 10]} of house number {number}?",
            "chosen": f"The {_NOUNS[number % 10]} number {number} stands {_PLACES[number % 5]}.",
            "rejected": f"Well, I would say that number {number} may be {_PLACES[number % 5]}, but who knows?",
        }
        for number in range(100)
    ],
    wrong_type={"prompt": "Where?", "chosen": "Here.", "rejected": ["there"]},
    huge={"prompt": "Where?", "chosen": "Here.", "rejected": "x" * 300_000},
    empty={"prompt": "Where?", "chosen": "Here.", "rejected": "  "},
    near={
        "prompt": "Say where is the red harbour of house number 0?",
        "chosen": "The harbour number 0 stands by the sea.",
        "rejected": "Well, I would say that number 0 may be by the sea, but who knows?",
    },
    beside={
        "prompt": "Where is the red harbour of house number 0?",
        "chosen": "The harbour number 0 stands by the sea.",
        "rejected": "Nobody has ever found out.",
    },
    plan={"method": "lora", "learning_rate": 5e-3, "max_epochs": 2.0},
)
