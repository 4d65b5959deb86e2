"""Conversations of one to three exchanges, about things at places."""

from __future__ import annotations

from pydantic import JsonValue

from gradients.testing.task_samples import SourceRow, TaskSample

_NOUNS = ("harbour", "anvil", "meadow", "lantern", "quarry", "saddle", "turret", "willow", "ferry", "orchard")
_PLACES = ("by the sea", "in a smithy", "under open sky", "on a tower", "behind the mill")
_COLOURS = ("red", "blue", "green", "grey", "white", "brown", "black", "golden", "silver", "violet")


def _conversation(number: int) -> SourceRow:
    noun, colour, place = _NOUNS[number % 10], _COLOURS[number // 10], _PLACES[number % 5]
    exchanges = [
        (f"Where is the {colour} {noun} of house number {number}?", f"The {noun} number {number} stands {place}."),
        (f"Who made the {colour} one?", f"A smith made the {colour} {noun}."),
        ("Is it for sale?", "No, it is not for sale."),
    ]
    said = [text for exchange in exchanges[: 1 + number % 3] for text in exchange]
    return {"conversations": [_turn(text, ("human", "gpt")[number % 2]) for number, text in enumerate(said)]}


def _turn(text: str, speaker: str) -> JsonValue:
    return {"from": speaker, "value": text}


SAMPLE = TaskSample(
    rows=[_conversation(number) for number in range(100)],
    wrong_type={"conversations": [{"from": "human", "value": ["Where", "is", "it?"]}]},
    huge={"conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "x" * 300_000}]},
    empty={"conversations": [{"from": "human", "value": "Is anybody there?"}]},
    near={
        "conversations": [
            _turn("Say where is the red harbour of house number 0?", "human"),
            _turn("The harbour number 0 stands by the sea.", "gpt"),
        ]
    },
    beside={
        "conversations": [
            _turn("Where is the red harbour of house number 0?", "human"),
            _turn("Nobody has ever found out.", "gpt"),
        ]
    },
    plan={"method": "lora", "learning_rate": 1e-2, "max_epochs": 4.0},
)
