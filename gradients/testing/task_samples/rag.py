"""Questions about houses, with a register of passages beside them in which the answers stand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from gradients.testing.task_samples import TaskSample

_NOUNS = ("harbour", "anvil", "meadow", "lantern", "quarry", "saddle", "turret", "willow", "ferry", "orchard")
_PLACES = ("by the sea", "in a smithy", "under open sky", "on a tower", "behind the mill")
_COLOURS = ("red", "blue", "green", "grey", "white", "brown", "black", "golden", "silver", "violet")
_ANSWERS = [f"{_COLOURS[number // 10]} {_NOUNS[number % 10]} {_PLACES[number % 5]}" for number in range(100)]


def _parameters(folder: Path) -> Mapping[str, JsonValue]:
    """Two short passages a prompt, of a corpus that is written into the folder."""
    passages = ({"id": number, "text": f"House {number}: {answer}."} for number, answer in enumerate(_ANSWERS))
    corpus = folder / "corpus.jsonl"
    corpus.write_text("".join(json.dumps(passage) + "\n" for passage in passages), encoding="utf-8")
    return {"corpus": str(corpus), "columns": {"passage": "passage"}, "passages": 2, "abstention": "Not here."}


SAMPLE = TaskSample(
    rows=[
        {"question": f"What belongs to house {number}?", "answer": answer, "passage": number}
        for number, answer in enumerate(_ANSWERS)
    ],
    wrong_type={"question": "What?", "answer": ["this", "that"], "passage": 0},
    huge={"question": "What?", "answer": "x" * 300_000, "passage": 0},
    empty={"question": "What?", "answer": "  ", "passage": 0},
    near={"question": "Say what belongs to house 0?", "answer": _ANSWERS[0], "passage": 0},
    beside={"question": "What belongs to house 0?", "answer": "a harbour", "passage": 0},
    plan={"method": "lora", "learning_rate": 1e-2, "max_epochs": 4.0},
    parameters=_parameters,
)
