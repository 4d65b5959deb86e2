"""WordNet's database files as values: one synset with its words, definition and examples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PARTS = {"noun": "noun", "verb": "verb", "adj": "adjective", "adv": "adverb"}
_EXAMPLE = re.compile(r'"([^"]+)"')


@dataclass(frozen=True, slots=True)
class Synset:
    """One meaning.

    Attributes:
        key: its part of speech and offset in the database, e.g. `noun:02666196`.
        pos: noun, verb, adjective or adverb.
        words: those that carry the meaning, most frequent first.
        main_words: the words of which it is the most frequent meaning.
    """

    key: str
    pos: str
    words: tuple[str, ...]
    main_words: frozenset[str]
    definition: str
    examples: tuple[str, ...]

    def texts(self) -> tuple[str, ...]:
        """The definition and the examples."""
        return (self.definition, *self.examples)


def read_synsets(folder: Path) -> list[Synset]:
    """Every synset in `folder`, in the order of the files."""
    synsets = []
    for part in PARTS:
        index = (folder / f"index.{part}").read_text(encoding="utf-8").splitlines()
        rows = (line.split() for line in index if not line.startswith("  "))
        # lemma, part of speech, number of synsets, number of pointers, the pointers, number of senses, tagged senses, offsets
        first_offsets = {row[0]: row[4 + int(row[3]) + 2] for row in rows}
        lines = (folder / f"data.{part}").read_text(encoding="utf-8", errors="replace").splitlines()
        synsets += [_synset(line, part, first_offsets) for line in lines if not line.startswith("  ")]
    return synsets


def _synset(line: str, part: str, first_offsets: Mapping[str, str]) -> Synset:
    """One line of `data.*`; `first_offsets` has for each lower-case lemma the offset of its most frequent meaning."""
    fields, _, gloss = line.partition(" | ")
    offset, _file, _kind, count, *rest = fields.split()
    # Each word is followed by a number; adjectives may carry a marker of where they stand, as in `galore(ip)`.
    lemmas = [re.sub(r"\(\w+\)$", "", word) for word in rest[0 : 2 * int(count, 16) : 2]]
    definition, examples = split_gloss(gloss)
    return Synset(
        key=f"{part}:{offset}",
        pos=PARTS[part],
        words=tuple(lemma.replace("_", " ") for lemma in lemmas),
        main_words=frozenset(lemma.replace("_", " ") for lemma in lemmas if first_offsets.get(lemma.lower()) == offset),
        definition=definition,
        examples=examples,
    )


def split_gloss(gloss: str) -> tuple[str, tuple[str, ...]]:
    """The definition and the quoted examples of a gloss.

    >>> split_gloss('a tangible entity; "it was full of balls"; "an object"')
    ('a tangible entity', ('it was full of balls', 'an object'))
    """
    definition = re.split(r'[;:,]?\s*"', gloss, maxsplit=1)[0].strip(" ;:,")
    examples = tuple(" ".join(text.split()) for text in _EXAMPLE.findall(gloss))
    return " ".join(definition.split()), examples
