"""How near an answer comes to the right one: exact match and F1 by the rules of SQuAD v1.1's evaluation script.

Its normalisation drops ASCII punctuation and English articles and knows words by spaces: scripts without spaces are one word.
"""

from __future__ import annotations

import re
import string
from collections import Counter

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")


def squad_normalised(text: str) -> str:
    """Lower case, without punctuation, articles and further spaces."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, right: str) -> bool:
    """Whether both say the same, normalised."""
    return squad_normalised(answer) == squad_normalised(right)


def f1(answer: str, right: str) -> float:
    """Harmonic mean of precision and recall over words, in [0, 1]."""
    words, wanted = squad_normalised(answer).split(), squad_normalised(right).split()
    common = (Counter(words) & Counter(wanted)).total()
    return 2 * common / (len(words) + len(wanted)) if common else 0.0
