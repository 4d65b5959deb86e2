"""The tasks that the market on one machine posts: one wish per task type, on data that the project ships."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gradients.domain.json import Json
from gradients.errors import TaskInvalid

ASSETS = Path(__file__).parent / "assets"
DEFAULT_BASE = "nano-lm"

WISHES: Mapping[str, Mapping[str, Json]] = {
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
    "diffusion": {
        "type": "diffusion",
        "base": "nano-image",
        "dataset": str(ASSETS / "data" / "fluent-emoji" / "rows.jsonl"),
        "parameters": {"resolution": 32, "seeds": 1, "steps": 10, "guidance": 1.0},
    },
}


def wish(task_type: str, *, hours: float, base: str | None) -> dict[str, Json]:
    """What to post for a task type. Raises TaskInvalid for a type without a demonstration."""
    if task_type not in WISHES:
        raise TaskInvalid(f"There is no demonstration of '{task_type}'", fix=f"Choose from {', '.join(WISHES)}")
    return {**WISHES[task_type], "hours": hours, **({"base": base} if base else {})}
