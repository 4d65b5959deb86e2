"""The tasks that the market on one machine posts: specs for every task type, on data that the project ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gradients.domain.json import Json
from gradients.errors import TaskInvalid
from gradients.tasks.registry import task_type

ASSETS = Path(__file__).parent.parent / "assets"
DEFAULT_BASE, IMAGE_BASE = "nano-lm", "nano-image"
IMAGE_METRIC: Mapping[str, Json] = {"resolution": 32, "seeds": 2, "steps": 10, "guidance": 1.0}

TEXT_SPECS: Mapping[str, Mapping[str, Json]] = {
    "instruct": {
        "type": "instruct",
        "base": DEFAULT_BASE,
        "dataset": str(ASSETS / "data" / "wordnet-definitions" / "rows.jsonl"),
        "parameters": {"columns": {"instruction": "question", "output": "definition"}},
    },
    "chat": {
        "type": "chat",
        "base": DEFAULT_BASE,
        "dataset": str(ASSETS / "data" / "chatterbot-dialogues" / "rows.jsonl"),
        "parameters": {},
    },
    "dpo": {
        "type": "dpo",
        "base": DEFAULT_BASE,
        "dataset": str(ASSETS / "data" / "wordnet-preferences" / "rows.jsonl"),
        "parameters": {"beta": 0.1},
    },
    "grpo": {
        "type": "grpo",
        "base": DEFAULT_BASE,
        "dataset": str(ASSETS / "data" / "wordnet-definitions" / "rows.jsonl"),
        "parameters": {
            "columns": {"prompt": "question"},
            "rewards": [
                {
                    "kind": "regular_expression",
                    "pattern": "(a|an|the) ",
                    "where": "start",
                    "ignore_case": True,
                    "weight": 2,
                },
                {"kind": "regular_expression", "pattern": r"[^.!?]*\.", "where": "whole"},  # one whole sentence
                {"kind": "length", "at_least": 8, "at_most": 14},
            ],
            "max_new_tokens": 32,
            "samples": 2,
            "temperature": 0.8,
        },
    },
    "rag": {
        "type": "rag",
        "base": DEFAULT_BASE,
        "dataset": str(ASSETS / "data" / "wordnet-rag" / "rows.jsonl"),
        "parameters": {
            "corpus": str(ASSETS / "data" / "wordnet-rag" / "passages.jsonl"),
            "columns": {"passage": "passage_id"},
            "passages": 3,
            "passage_characters": 280,  # none of these is longer
        },
    },
}
# Tasks of one type take turns where it has several.
IMAGE_SPECS: Sequence[Mapping[str, Json]] = (
    {
        "type": "diffusion",
        "base": IMAGE_BASE,
        "dataset": str(ASSETS / "data" / "ada-portraits" / "rows.jsonl"),
        "parameters": {**IMAGE_METRIC, "subject": "person"},
    },
    {
        "type": "diffusion",
        "base": IMAGE_BASE,
        "dataset": str(ASSETS / "data" / "fluent-emoji" / "rows.jsonl"),
        "parameters": {**IMAGE_METRIC, "subject": "style"},
    },
)
SPECS: Mapping[str, Sequence[Mapping[str, Json]]] = {
    **{name: (one,) for name, one in TEXT_SPECS.items()},
    "diffusion": IMAGE_SPECS,
}


def spec(name: str, *, number: int, hours: float, base: str | None) -> dict[str, Json]:
    """What to post as the task of a type that has the number (from 0). Raises TaskInvalid for a type without a demonstration.

    Args:
        base: instead of the demonstration's own, for types that fine-tune language models.
    """
    if name not in SPECS:
        raise TaskInvalid(f"There is no demonstration of '{name}'", fix=f"Choose from {', '.join(SPECS)}")
    chosen = SPECS[name][number % len(SPECS[name])]
    instead = {"base": base} if base and task_type(name).base_family == "language" else {}
    return {**chosen, "hours": hours, **instead}
