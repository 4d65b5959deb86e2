"""Finding rows that say the same thing twice, exactly or nearly."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence

SHINGLE_WORDS = 3
PERMUTATIONS = 64
NEAR = 0.8  # estimated Jaccard similarity of word shingles
OVERLAP_WORDS = (
    13  # a run of this many words in both is an overlap whatever else the rows say (as in GPT-3's decontamination)
)

_WORD = re.compile(r"\w+")


def normalised(text: str) -> str:
    """What two texts are compared by: compatibility form, case-folded, words only, single spaces."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def near_duplicate_groups(texts: Sequence[str]) -> list[list[int]]:
    """Positions of `texts` (normalised) in groups of near-duplicates, every position in exactly one group.

    The grouping does not depend on the order of the texts.
    """
    from datasketch import MinHash, MinHashLSH

    sketches = MinHash.bulk([shingles(text) for text in texts], num_perm=PERMUTATIONS)
    index = MinHashLSH(threshold=NEAR, num_perm=PERMUTATIONS)
    for position, sketch in enumerate(sketches):
        index.insert(position, sketch)
    parents = list(range(len(texts)))
    for position, sketch in enumerate(sketches):
        for other in index.query(sketch):
            if other < position and sketch.jaccard(sketches[other]) >= NEAR:
                _join(parents, position, other)
    groups: dict[int, list[int]] = {}
    for position in range(len(texts)):
        groups.setdefault(_root(parents, position), []).append(position)
    return list(groups.values())


def shingles(text: str) -> list[bytes]:
    """Runs of three words of a normalised text; the whole text when it is shorter."""
    words = text.split()
    runs = [words[i : i + SHINGLE_WORDS] for i in range(max(1, len(words) - SHINGLE_WORDS + 1))]
    return [" ".join(run).encode() for run in runs]


def overlapping(texts: Sequence[str], with_texts: Iterable[str]) -> set[int]:
    """Positions of `texts` that share a run of 13 words with one of `with_texts`, all normalised."""
    known = {run for text in with_texts for run in _runs(text)}
    return {position for position, text in enumerate(texts) if any(run in known for run in _runs(text))}


def _runs(text: str) -> Iterable[bytes]:
    words = text.split()
    for i in range(len(words) - OVERLAP_WORDS + 1):
        yield hashlib.blake2b(" ".join(words[i : i + OVERLAP_WORDS]).encode(), digest_size=12).digest()


def _root(parents: list[int], position: int) -> int:
    while parents[position] != position:
        parents[position] = parents[parents[position]]
        position = parents[position]
    return position


def _join(parents: list[int], one: int, other: int) -> None:
    parents[_root(parents, one)] = _root(parents, other)
