"""Finding rows that say the same thing twice, exactly or nearly.

Two texts are near-duplicates when they share most of their runs of three words. What many texts share is their template and tells no two
of them apart, unless the texts are copies of one another: a template is the same in all of them, while copies differ in different places.
Does not cover: many copies that differ in the same place, which is what a template with a blank to fill in is.
"""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, MutableSequence, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gradients.datasets.digests import Digests
from gradients.datasets.shingles import Sets

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gradients.datasets.shingles import Numbers

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


def near_duplicate_groups(texts: Sequence[str]) -> list[list[int]]:
    """Positions of `texts` (normalised) in groups of near-duplicates, every position in exactly one group.

    The grouping does not depend on the order of the texts. Similar pairs are found by sketches and then compared exactly. What texts say
    lies on the disk meanwhile; memory goes by their number.
    """
    digests = Digests(hashlib.sha256(text.encode()).digest() for text in texts)
    order = sorted(range(len(texts)), key=digests.__getitem__)
    whole = Sets(_numbers(texts[position]) for position in order)
    numbers, holders = whole.in_more_than(COMMON_ROWS)
    telling = _beside_template(whole, numbers[holders > _template_rows(len(whole))])
    # A text that says little of its own may fill in the blanks of a template, or be one of many copies.
    little = np.flatnonzero(whole.shares_of(numbers) <= OWN_SHARE * whole.sizes()).tolist()
    parents = list(range(len(order)))
    for group in _groups(telling, range(len(order)), most=TEMPLATE_ROWS):
        _join_all(parents, group)
    for group in _groups(whole.some(little), little, most=COMMON_ROWS):
        _join_all(parents, group)
    roots = [0] * len(order)
    for rank, position in enumerate(order):
        roots[position] = _root(parents, rank)
    return _by_root(roots)


def near_any(texts: Sequence[str], others: Sequence[str]) -> set[int]:
    """Positions of `texts` that are near-duplicates of one of `others`, all normalised; compared exactly, so for few `texts`.

    What many of `others` share is template; they are not copies of one another, as many of `texts` may be.
    """
    there = Sets(map(_numbers, others))
    numbers, holders = there.in_more_than(TEMPLATE_ROWS)
    template = frozenset(numbers[holders > _template_rows(len(there))].tolist())
    ours = [_without(shingles(text), template) for text in texts]
    holding: dict[int, list[int]] = {}
    for position, own in enumerate(ours):
        for shingle in own:
            holding.setdefault(shingle, []).append(position)
    near: set[int] = set()
    for other in (_without(frozenset(one.tolist()), template) for one in there):
        candidates = {position for shingle in other & holding.keys() for position in holding[shingle]} - near
        near |= {position for position in candidates if is_near(ours[position], other)}
    return near


def shingles(text: str) -> frozenset[int]:
    """Runs of three words of a normalised text, each as a 32-bit number; the whole text when it is shorter."""
    words = text.split()
    runs = (words[i : i + SHINGLE_WORDS] for i in range(max(1, len(words) - SHINGLE_WORDS + 1)))
    return frozenset(zlib.crc32(" ".join(run).encode()) for run in runs)


def overlapping(texts: Sequence[str], with_texts: Sequence[str]) -> set[int]:
    """Positions of `texts` that share a run of 13 words with one of `with_texts`, all normalised, unless the run is template.

    For few `with_texts`; of the others nothing is kept but what they share with these.
    """
    held = {run for text in with_texts for run in _runs(text.split())}
    begin = {run[:SHINGLE_WORDS] for run in held}
    shared = [
        (position, runs) for position, text in enumerate(texts) if (runs := held & set(_runs(text.split(), begin)))
    ]
    rows = Counter(
        run for runs in (*(runs for _, runs in shared), *(set(_runs(t.split())) for t in with_texts)) for run in runs
    )
    return {position for position, runs in shared if any(rows[run] <= TEMPLATE_ROWS for run in runs)}


def _template_rows(texts: int) -> int:
    """What more of so many texts have in common may be template."""
    return max(TEMPLATE_ROWS, int(TEMPLATE_SHARE * texts))


def _numbers(text: str) -> Numbers:
    return np.sort(np.fromiter(shingles(text), np.uint32))


def _beside_template(sets: Sets, template: Numbers) -> Sets:
    """What texts say beside the template; all of it when there is nothing else."""
    return sets.without(template, or_whole=True) if len(template) else sets


def _without(one: frozenset[int], template: frozenset[int]) -> frozenset[int]:
    """As `_beside_template`, for one text. Itself, not a copy, where they share nothing."""
    return one if one.isdisjoint(template) else one - template or one


def _groups(sets: Sets, names: Sequence[int], *, most: int, levels: int = TEMPLATE_LEVELS) -> Iterator[list[int]]:
    """Groups of names whose sets are similar.

    A group of more than `most` is grouped anew by what is left when what all of them share is taken away. Copies with changes here and
    there share little that none of them has changed, and stay together; rows that fill in a template's blanks part.

    Args:
        names: of the sets, in their order.
    """
    for group in _similar(sets):
        named = [names[position] for position in group]
        inner = sets.some(group) if levels and len(group) > most else None
        if inner is not None and len(shared := inner.in_all()):
            yield from _groups(inner.without(shared, or_whole=False), named, most=most, levels=levels - 1)
        else:
            yield named


def _similar(sets: Sets) -> list[list[int]]:
    """Positions in groups that similar pairs join, of which all have a band in common."""
    parents = list(range(len(sets)))
    sketches = sets.sketches(BANDS * BAND_NUMBERS)
    for band in range(BANDS):
        columns = sketches[:, band * BAND_NUMBERS : (band + 1) * BAND_NUMBERS]
        for alike in _equal(columns):
            read = {position: sets[position] for position in alike[:COMPARED]}
            for place, position in enumerate(alike[1:], start=1):
                for other in alike[: min(place, COMPARED)]:
                    if _root(parents, position) != _root(parents, other):
                        if position not in read:
                            read = {**dict(itertools.islice(read.items(), COMPARED)), position: sets[position]}
                        if _is_near(read[position], read[other]):
                            _join(parents, position, other)
    return _by_root([_root(parents, position) for position in range(len(sets))])


def _equal(rows: NDArray[np.uint32]) -> Iterator[list[int]]:
    """Positions of rows [n, columns] that are equal to others, group by group, each in order."""
    order = np.lexsort(rows.T)
    same = (rows[order[1:]] == rows[order[:-1]]).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        yield order[start : end + 1].tolist()


def is_near(one: frozenset[int], other: frozenset[int]) -> bool:
    """Whether the Jaccard similarity is as high as near-duplicates have it; two empty sets are equal."""
    return _is_high(len(one), len(other), lambda: len(one & other))


def _is_near(one: Numbers, other: Numbers) -> bool:
    return _is_high(len(one), len(other), lambda: len(np.intersect1d(one, other, assume_unique=True)))


def _is_high(one: int, other: int, both: Callable[[], int]) -> bool:
    if min(one, other) < NEAR * max(one, other):
        return False
    shared = both()
    return shared >= NEAR * (one + other - shared)


def _runs(words: Sequence[str], begin: Collection[tuple[str, ...]] | None = None) -> Iterator[tuple[str, ...]]:
    """Runs of 13 words; only those that begin with one of `begin`, where it is given."""
    for i in range(len(words) - OVERLAP_WORDS + 1):
        if begin is None or tuple(words[i : i + SHINGLE_WORDS]) in begin:
            yield tuple(words[i : i + OVERLAP_WORDS])


def _root(parents: MutableSequence[int], position: int) -> int:
    while parents[position] != position:
        parents[position] = parents[parents[position]]
        position = parents[position]
    return position


def _join(parents: MutableSequence[int], one: int, other: int) -> None:
    parents[_root(parents, one)] = _root(parents, other)


def _join_all(parents: MutableSequence[int], group: Sequence[int]) -> None:
    for one in group:
        _join(parents, one, group[0])


def _by_root(roots: Sequence[int]) -> list[list[int]]:
    groups: dict[int, list[int]] = {}
    for position, root in enumerate(roots):
        groups.setdefault(root, []).append(position)
    return list(groups.values())
