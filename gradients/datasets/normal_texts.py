"""What a text says, apart from how it is written: for comparing texts."""

from __future__ import annotations

import re
import unicodedata

# Scripts without spaces between words: every character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_NO_WORD = re.compile(rf"[{_UNSPACED}]|[^\w\s]")
_OPERATORS = frozenset("#%&*-/@\\")  # of the punctuation; others are symbols by Unicode's own classes
_HYPHEN = re.compile(r"(?<=[^\W\d])-(?=[^\W\d])")


def plain(text: str) -> str:
    """What texts that say exactly the same have in common: compatibility form, case-folded, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def normalised(text: str) -> str:
    """What near-duplicates are looked for in: words and symbols (operators, emoji) between single spaces, without punctuation.

    A text of nothing but punctuation stays as it is.
    """
    folded = plain(text)
    return " ".join(_NO_WORD.sub(_spaced, _HYPHEN.sub(" ", folded)).split()) or folded


def _spaced(found: re.Match[str]) -> str:
    """A character that is not a letter: part of the word that it marks, nothing, a gap, or a word of its own."""
    kind = unicodedata.category(found[0])
    if kind[0] == "M" or kind == "Cf":  # accents and vowel signs; joiners and soft hyphens
        return found[0] if kind[0] == "M" else ""
    gap = kind == "Cc" or (kind[0] == "P" and found[0] not in _OPERATORS)
    return " " if gap else f" {found[0]} "
