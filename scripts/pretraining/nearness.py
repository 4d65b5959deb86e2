"""Finding texts that say the same in nearly the same words."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

_WORD = re.compile(r"[a-z0-9]+")


def words_of(text: str) -> frozenset[str]:
    """The distinct lower-case words of `text`."""
    return frozenset(_WORD.findall(text.lower()))


class NearTexts:
    """A growing set of texts that answers whether one like a given text is among them.

    Two texts are near when their sets of words overlap by at least `overlap` (Jaccard). Such texts always share one of
    their `n - ceil(overlap * n) + 1` rarest words, so only texts filed under those are compared.
    """

    def __init__(self, *, rarity: Iterable[str], overlap: float) -> None:
        """Count words over the texts in `rarity`; words unseen there are the rarest."""
        self._counts = Counter(word for text in rarity for word in words_of(text))
        self._overlap = overlap
        self._filed: defaultdict[str, list[frozenset[str]]] = defaultdict(list)

    def add(self, text: str) -> None:
        """File `text`."""
        words = words_of(text)
        for word in self._rarest(words):
            self._filed[word].append(words)

    def holds_near(self, text: str) -> bool:
        """Whether a filed text is near `text`."""
        words = words_of(text)
        near = (filed for word in self._rarest(words) for filed in self._filed.get(word, ()))
        return any(len(words & filed) >= self._overlap * len(words | filed) for filed in near)

    def _rarest(self, words: frozenset[str]) -> list[str]:
        kept = len(words) - math.ceil(self._overlap * len(words)) + 1
        return sorted(words, key=lambda word: (self._counts[word], word))[:kept]
