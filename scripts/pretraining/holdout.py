"""Which synsets the demo's tasks use. They, and every gloss near one of theirs, are kept out of pretraining."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from scripts.pretraining.nearness import NearTexts
from scripts.pretraining.wordnet import Synset

DEFINITION_ROWS = 3000
PREFERENCE_ROWS = 1000
PASSAGE_ROWS = 1000
NEAR_OVERLAP = 0.6
_UNSUITABLE = re.compile(
    r"\b(sex|sexual\w*|intercourse|genital\w*|penis|vagina\w*|prostitut\w*|erotic\w*|lewd|obscen\w*|vulgar|slang|slur|"
    r"disparag\w*|derogatory|offensive|insult\w*|negro\w*|rape|suicide|homosexual\w*|fool|stupid|idiot)\b",
    re.IGNORECASE,
)
_PLAIN_WORD = re.compile(r"[a-z]{3,14}")
PARTS_OF_SPEECH = ("noun", "verb", "adjective")


class Entry(NamedTuple):
    """A word and the synset that is its most frequent meaning."""

    word: str
    synset: Synset


class HoldOut(NamedTuple):
    """The entries of each task; no word and no synset is in two places."""

    definitions: tuple[Entry, ...]
    preferences: tuple[Entry, ...]
    passages: tuple[Entry, ...]

    def entries(self) -> tuple[Entry, ...]:
        """All of them."""
        return (*self.definitions, *self.preferences, *self.passages)

    def fit_to_ship(self, corpus: str) -> HoldOut:
        """Only the entries whose definition stands nowhere in `corpus` (in any case) and that suit any reader."""
        lowered = corpus.lower()
        parts = []
        for part in self:
            suitable = (one for one in part if not _UNSUITABLE.search(" ".join((one.word, *one.synset.texts()))))
            parts.append(tuple(one for one in suitable if one.synset.definition.lower() not in lowered))
        return HoldOut(*parts)


def choose_hold_out(synsets: Sequence[Synset], *, seed: int) -> HoldOut:
    """Entries drawn by `seed`, no two of a word or with near definitions, passages (which need an example sentence) first."""
    eligible = [Entry(word, synset) for synset in synsets if (word := _word_to_ask_for(synset))]
    random.Random(seed).shuffle(eligible)
    near = NearTexts(rarity=(entry.synset.definition for entry in eligible), overlap=NEAR_OVERLAP)
    by_word: dict[str, Entry] = {}
    for entry in eligible:
        if entry.word not in by_word and not near.holds_near(entry.synset.definition):
            near.add(entry.synset.definition)
            by_word[entry.word] = entry
    distinct = list(by_word.values())
    passages = [entry for entry in distinct if entry.synset.examples][:PASSAGE_ROWS]
    taken = set(passages)
    others = [entry for entry in distinct if entry not in taken]
    end = DEFINITION_ROWS + PREFERENCE_ROWS
    return HoldOut(tuple(others[:DEFINITION_ROWS]), tuple(others[DEFINITION_ROWS:end]), tuple(passages))


def hold_out_test(hold_out: HoldOut, synsets: Iterable[Synset]) -> Callable[[Synset], bool]:
    """A test whether a synset must stay out of pretraining: it is held out, or a text of it is near one that is."""
    keys = {entry.synset.key for entry in hold_out.entries()}
    near = NearTexts(rarity=(synset.definition for synset in synsets), overlap=NEAR_OVERLAP)
    for entry in hold_out.entries():
        for text in entry.synset.texts():
            near.add(text)
    return lambda synset: synset.key in keys or any(near.holds_near(text) for text in synset.texts())


def _word_to_ask_for(synset: Synset) -> str:
    """The word by which the synset is asked for; empty where it would not make a good question."""
    definition = synset.definition
    if synset.pos not in PARTS_OF_SPEECH or not 20 <= len(definition) <= 140 or not definition.isascii():
        return ""
    if not definition[0].isalpha() or definition.count("(") != definition.count(")"):
        return ""
    word = next((word for word in synset.words if word in synset.main_words and _PLAIN_WORD.fullmatch(word)), "")
    return "" if word and word in definition.lower() else word
