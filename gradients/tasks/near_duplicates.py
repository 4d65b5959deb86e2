"""Finding rows that say the same thing twice, exactly or nearly.

Two texts are near-duplicates when they share most of their runs of three words. Runs that most texts of a data set share are its
template and tell no two of them apart; without this rule a long instruction in front of each row would make all rows one.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence

SHINGLE_WORDS = 3
NEAR = 0.6  # Jaccard similarity of word shingles; one changed word in 16 leaves 11 of 17
PERMUTATIONS = 64
CANDIDATE = 0.4  # estimated similarity from which pairs are compared exactly
FEWER_MISSED = (0.2, 0.8)  # weights of false and missed candidates; a false one costs a comparison
TEMPLATE_SHARE = 0.5  # shingles of more texts than this are the template
OVERLAP_WORDS = 13  # a run of this many words in both is an overlap whatever else the rows say (as for GPT-3)
TEMPLATE_ROWS = 10  # … unless more rows than this share it

# Scripts without spaces between words: every character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def normalised(text: str) -> str:
    """What two texts are compared by: compatibility form, case-folded, words only, single spaces."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def near_duplicate_groups(texts: Sequence[str]) -> list[list[int]]:
    """Positions of `texts` (normalised) in groups of near-duplicates, every position in exactly one group.

    The grouping does not depend on the order of the texts. Similar pairs are found by sketches (99 of 100 at the threshold, more above it)
    and then compared exactly.
    """
    from datasketch import MinHash, MinHashLSH

    shingled = _without_template([shingles(text) for text in texts])
    sketches = MinHash.bulk(shingled, num_perm=PERMUTATIONS, hashfunc=int)
    index = MinHashLSH(threshold=CANDIDATE, num_perm=PERMUTATIONS, weights=FEWER_MISSED)
    parents = list(range(len(texts)))
    for position, sketch in enumerate(sketches):
        for other in index.query(sketch):
            if _similarity(shingled[position], shingled[other]) >= NEAR:
                _join(parents, position, other)
        index.insert(position, sketch)
    groups: dict[int, list[int]] = {}
    for position in range(len(texts)):
        groups.setdefault(_root(parents, position), []).append(position)
    return list(groups.values())


def near_any(texts: Sequence[str], others: Sequence[str]) -> set[int]:
    """Positions of `texts` that are near-duplicates of one of `others`, all normalised; compared exactly, so for few `texts`."""
    shingled = _without_template([shingles(text) for text in (*others, *texts)])
    there, ours = shingled[: len(others)], shingled[len(others) :]
    holders: dict[int, list[int]] = {}
    for position, own in enumerate(ours):
        for shingle in own:
            holders.setdefault(shingle, []).append(position)
    near: set[int] = set()
    for other in there:
        candidates = {position for shingle in other & holders.keys() for position in holders[shingle]} - near
        near |= {position for position in candidates if _similarity(ours[position], other) >= NEAR}
    return near


def shingles(text: str) -> frozenset[int]:
    """Runs of three words of a normalised text, each as a 32-bit number; the whole text when it is shorter."""
    words = text.split()
    runs = (words[i : i + SHINGLE_WORDS] for i in range(max(1, len(words) - SHINGLE_WORDS + 1)))
    return frozenset(zlib.crc32(" ".join(run).encode()) for run in runs)


def overlapping(texts: Sequence[str], with_texts: Sequence[str]) -> set[int]:
    """Positions of `texts` that share a run of 13 words with one of `with_texts`, all normalised, unless the run is template."""
    held = {run for text in with_texts for run in _runs(text)}
    shared = [_runs(text) & held for text in texts]
    rows = Counter(run for runs in (*shared, *map(_runs, with_texts)) for run in runs)
    return {position for position, runs in enumerate(shared) if any(rows[run] <= TEMPLATE_ROWS for run in runs)}


def _without_template(shingled: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """The sets less what most of them share; a set that would be empty stays as it is."""
    rows = Counter(shingle for one in shingled for shingle in one)
    most = max(TEMPLATE_ROWS, int(TEMPLATE_SHARE * len(shingled)))
    template = frozenset(shingle for shingle, count in rows.items() if count > most)
    return [one - template or one for one in shingled]


def _similarity(one: frozenset[int], other: frozenset[int]) -> float:
    """Jaccard similarity."""
    return len(one & other) / len(one | other)


def _runs(text: str) -> frozenset[bytes]:
    words = text.split()
    return frozenset(
        hashlib.blake2b(" ".join(words[i : i + OVERLAP_WORDS]).encode(), digest_size=12).digest()
        for i in range(len(words) - OVERLAP_WORDS + 1)
    )


def _root(parents: list[int], position: int) -> int:
    while parents[position] != position:
        parents[position] = parents[parents[position]]
        position = parents[position]
    return position


def _join(parents: list[int], one: int, other: int) -> None:
    parents[_root(parents, one)] = _root(parents, other)
