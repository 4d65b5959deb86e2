"""The demo's data sets, written from the synsets that pretraining never sees."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from scripts.pretraining.holdout import Entry


def definition_rows(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """A word, its part of speech, its definition, and the question that asks for it."""
    return [
        {
            "word": entry.word,
            "pos": entry.synset.pos,
            "question": f"Define the {entry.synset.pos}: {entry.word}",
            "definition": entry.synset.definition,
            "synset": entry.synset.key,
        }
        for entry in entries
    ]


def preference_rows(entries: Sequence[Entry], *, seed: int) -> list[dict[str, str]]:
    """A question, its definition as chosen, and as rejected the definition of a word of another part of speech."""
    rng = random.Random(seed)
    return [
        {
            "prompt": f"What does the {entry.synset.pos} {entry.word} mean?",
            "chosen": entry.synset.definition,
            "rejected": _another(entry, entries, rng).synset.definition,
            "synset": entry.synset.key,
        }
        for entry in entries
    ]


def _another(entry: Entry, entries: Sequence[Entry], rng: random.Random) -> Entry:
    return rng.choice([one for one in entries if one.synset.pos != entry.synset.pos])


def passage_rows(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """The passages that a question is answered from."""
    return [
        {
            "id": entry.synset.key,
            "title": entry.word,
            "text": f"{', '.join(entry.synset.words)} ({entry.synset.pos}): {entry.synset.definition}. "
            f"Example: {entry.synset.examples[0]}.",
        }
        for entry in entries
    ]


def question_rows(entries: Iterable[Entry]) -> list[dict[str, str]]:
    """Questions whose answers stand in the passage named."""
    return [
        {
            "question": f"What is the meaning of the {entry.synset.pos} {entry.word}?",
            "answer": entry.synset.definition,
            "passage_id": entry.synset.key,
        }
        for entry in entries
    ]


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write `rows` as JSON lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    partial.replace(path)
