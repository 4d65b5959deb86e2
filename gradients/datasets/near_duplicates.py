"""Finding rows that say the same thing twice, exactly or nearly.

Two texts are near-duplicates when they share most of their runs of three words. What many texts share is their template and tells no two
of them apart, unless the texts are copies of one another: a template is the same in all of them, while copies differ in different places.
Does not cover: many copies that differ in the same place, which is what a template with a blank to fill in is.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence

SHINGLE_WORDS = 3
NEAR = 0.6  # Jaccard similarity of word shingles; one changed word in 16 leaves 11 of 17
OWN_SHARE = (1 - NEAR) / (1 + NEAR)  # two texts that share all but this much of each are near: a quarter
BANDS, BAND_NUMBERS = 21, 3  # of a sketch: pairs have a band in common in 99 of 100 cases at NEAR, in 3 of 4 at 0.4
COMPARED = 32  # texts of a band that others with the same band are compared with; there are more where a template is
TEMPLATE_SHARE = 0.02  # shingles of more texts than this may be template
TEMPLATE_ROWS = 10  # … if those are more than this
COMMON_ROWS = 5  # what more rows than this have is not a row's own
TEMPLATE_LEVELS = 8  # a template within a template, and so on
OVERLAP_WORDS = 13  # a run of this many words in both is an overlap whatever else the rows say (as for GPT-3)

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


def near_duplicate_groups(texts: Sequence[str]) -> list[list[int]]:
    """Positions of `texts` (normalised) in groups of near-duplicates, every position in exactly one group.

    The grouping does not depend on the order of the texts. Similar pairs are found by sketches and then compared exactly.
    """
    order = sorted(range(len(texts)), key=lambda position: hashlib.sha256(texts[position].encode()).digest())
    whole = {position: shingles(texts[position]) for position in order}
    template = _shared(whole.values(), share=TEMPLATE_SHARE, rows=TEMPLATE_ROWS)
    telling = {position: _without(one, template) for position, one in whole.items()}
    # A text that says little of its own may fill in the blanks of a template, or be one of many copies.
    common = _shared(whole.values(), share=0, rows=COMMON_ROWS)
    little = {position: one for position, one in whole.items() if len(one - common) <= OWN_SHARE * len(one)}
    parents = {position: position for position in order}
    for group in (*_groups(telling, most=TEMPLATE_ROWS), *_groups(little, most=COMMON_ROWS)):
        for position in group:
            _join(parents, position, group[0])
    return _by_root(parents, range(len(texts)))


def near_any(texts: Sequence[str], others: Sequence[str]) -> set[int]:
    """Positions of `texts` that are near-duplicates of one of `others`, all normalised; compared exactly, so for few `texts`.

    What many of `others` share is template; they are not copies of one another, as many of `texts` may be.
    """
    there = [shingles(text) for text in others]
    template = _shared(there, share=TEMPLATE_SHARE, rows=TEMPLATE_ROWS)
    ours = [_without(one, template) for one in map(shingles, texts)]
    holders: dict[int, list[int]] = {}
    for position, own in enumerate(ours):
        for shingle in own:
            holders.setdefault(shingle, []).append(position)
    near: set[int] = set()
    for other in (_without(one, template) for one in there):
        candidates = {position for shingle in other & holders.keys() for position in holders[shingle]} - near
        near |= {position for position in candidates if _near(ours[position], other)}
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


def _spaced(found: re.Match[str]) -> str:
    """A character that is not a letter: part of the word that it marks, nothing, a gap, or a word of its own."""
    kind = unicodedata.category(found[0])
    if kind[0] == "M" or kind == "Cf":  # accents and vowel signs; joiners and soft hyphens
        return found[0] if kind[0] == "M" else ""
    gap = kind == "Cc" or (kind[0] == "P" and found[0] not in _OPERATORS)
    return " " if gap else f" {found[0]} "


def _shared(shingled: Collection[frozenset[int]], *, share: float, rows: int) -> frozenset[int]:
    """What more than so many of the sets have in common."""
    import numpy as np

    every = np.fromiter((shingle for one in shingled for shingle in one), np.uint32)  # four bytes each, not a hundred
    found, holders = np.unique(every, return_counts=True)
    return frozenset(found[holders > max(rows, int(share * len(shingled)))].tolist())


def _without(one: frozenset[int], template: frozenset[int]) -> frozenset[int]:
    """What a text says beside the template; all of it when there is nothing else. Itself, not a copy, where they share nothing."""
    return one if one.isdisjoint(template) else one - template or one


def _groups(sets: Mapping[int, frozenset[int]], *, most: int, levels: int = TEMPLATE_LEVELS) -> Iterator[list[int]]:
    """Groups of positions whose sets are similar.

    A group of more than `most` is grouped anew by what is left when what all of them share is taken away. Copies with changes here and
    there share little that none of them has changed, and stay together; rows that fill in a template's blanks part.
    """
    for group in _similar(sets):
        many = levels and len(group) > most
        if shared := frozenset.intersection(*(sets[i] for i in group)) if many else frozenset[int]():
            yield from _groups({i: sets[i] - shared for i in group}, most=most, levels=levels - 1)
        else:
            yield group


def _similar(sets: Mapping[int, frozenset[int]]) -> list[list[int]]:
    """Positions in groups that similar pairs join."""
    from datasketch import MinHash

    parents = {position: position for position in sets}
    holders: dict[tuple[int, bytes], list[int]] = {}
    sketches = MinHash.generator(sets.values(), num_perm=BANDS * BAND_NUMBERS, hashfunc=int)
    for position, sketch in zip(sets, sketches, strict=True):
        numbers = sketch.hashvalues.reshape(BANDS, BAND_NUMBERS)
        found = [holders.setdefault((band, numbers[band].tobytes()), []) for band in range(BANDS)]
        for other in {other for those in found for other in those}:
            if _root(parents, position) != _root(parents, other) and _near(sets[position], sets[other]):
                _join(parents, position, other)
        for those in found:
            if len(those) < COMPARED:
                those.append(position)
    return _by_root(parents, sets)


def _near(one: frozenset[int], other: frozenset[int]) -> bool:
    """Whether the Jaccard similarity is as high as near-duplicates have it; two empty sets are equal."""
    if min(len(one), len(other)) < NEAR * max(len(one), len(other)):
        return False
    both = len(one & other)
    return both >= NEAR * (len(one) + len(other) - both)


def _runs(text: str) -> frozenset[bytes]:
    words = text.split()
    return frozenset(
        hashlib.blake2b(" ".join(words[i : i + OVERLAP_WORDS]).encode(), digest_size=12).digest()
        for i in range(len(words) - OVERLAP_WORDS + 1)
    )


def _root(parents: MutableMapping[int, int], position: int) -> int:
    while parents[position] != position:
        parents[position] = parents[parents[position]]
        position = parents[position]
    return position


def _join(parents: MutableMapping[int, int], one: int, other: int) -> None:
    parents[_root(parents, one)] = _root(parents, other)


def _by_root(parents: MutableMapping[int, int], positions: Iterable[int]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for position in positions:
        groups.setdefault(_root(parents, position), []).append(position)
    return list(groups.values())
