"""The demo's data sets, written from the synsets that pretraining never sees."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gradients.files.whole import write_text
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
    rows = []
    for word, synset in entries:
        other = rng.choice([one for one in entries if one.synset.pos != synset.pos])
        rows.append(
            {
                "prompt": f"What does the {synset.pos} {word} mean?",
                "chosen": synset.definition,
                "rejected": other.synset.definition,
                "synset": synset.key,
            }
        )
    return rows


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
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
