"""Conversations for the demo's chat task, out of the chatterbot corpus (which is not pretrained on)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import yaml  # type: ignore[import-untyped] # its stubs are a package of their own

# Topics whose answers are those of a polite assistant; left out are gossip, insults, politics and code listings.
TOPICS = (
    "ai",
    "food",
    "greetings",
    "history",
    "humor",
    "literature",
    "money",
    "movies",
    "science",
    "tech_support",
    "trivia",
)
MAX_CHARACTERS = 300
MAX_EXCHANGES = 2


class Exchange(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


def dialogue_rows(folder: Path, *, seed: int) -> list[dict[str, object]]:
    """Conversations of one to MAX_EXCHANGES exchanges of one topic each; no exchange is in two of them."""
    rng = random.Random(seed)
    rows: list[dict[str, object]] = []
    for topic in TOPICS:
        exchanges = read_exchanges(folder / f"{topic}.yml")
        rng.shuffle(exchanges)
        while exchanges:
            size = rng.randint(1, MAX_EXCHANGES)
            turns = [
                {"from": speaker, "value": text}
                for exchange in exchanges[:size]
                for speaker, text in (("human", exchange.question), ("assistant", exchange.answer))
            ]
            rows.append({"topic": topic, "conversations": turns})
            exchanges = exchanges[size:]
    rng.shuffle(rows)
    return rows


def read_exchanges(path: Path) -> list[Exchange]:
    """The distinct exchanges of a topic; longer conversations are left out, as many are lists of alternative answers."""
    conversations = yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
    pairs = (Exchange(*(" ".join(str(turn).split()) for turn in pair)) for pair in conversations if len(pair) == 2)
    by_question = {
        pair.question.lower(): pair for pair in pairs if 0 < len(pair.question + pair.answer) <= MAX_CHARACTERS
    }
    return list(by_question.values())
