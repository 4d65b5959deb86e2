"""Which submissions of a contest are one model: by how their rows move together, and by what they changed in the base.

Two honest runs of one recipe end in models whose values differ from row to row about as much as either differs from the base (measured:
docs/benchmarks/copies.md); a copy's move with its source's. The yardstick of a pair is the smaller of the two's own distance from the base,
so that no crowd of copies can move it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from gradients.domain.task import Hotkey
from gradients.scoring.contest import Contest, Entry
from gradients.scoring.fingerprints import Likeness, same_model, similarity


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """Beyond which two submissions count as one model."""

    row_ratio: float = 0.03  # spread of the rows' differences, in parts of the smaller distance from the base
    output_cosine: float = 0.9  # below which outputs acquit two whose rows agree: a metric may be saturated
    mixture_cosine: float = 0.99  # of an update with what two earlier ones add up to: honest runs have at most 0.98
    mixture_part: float = 0.05  # of each of the two, at least
    likeness: Likeness = field(default_factory=Likeness)  # of fingerprints


@dataclass(frozen=True, slots=True)
class Copy:
    """A submission that repeats an earlier one."""

    source: Hotkey
    evidence: str


def find_copies(contest: Contest, limits: CopyLimits) -> dict[Hotkey, Copy]:
    """Every measured entry that is not the first of its model -> its source: the earliest commitment, or an earlier task's winner."""
    entries = sorted((entry for entry in contest.entries if entry.rows), key=lambda entry: entry.order)
    copies = dict[Hotkey, Copy]()
    for later, (source, evidence) in _linked(entries, linked_pairs(contest, entries, limits)).items():
        copies[later] = Copy(source, evidence)
    for entry in entries:
        if repeated := copied_before(entry, contest, limits):
            copies[entry.hotkey] = repeated
    for hotkey, copy in list(copies.items()):  # whoever is one model with a copy of an earlier winner is one, too
        if copy.source in copies:
            copies[hotkey] = Copy(copies[copy.source].source, copy.evidence)
    return copies


def linked_pairs(contest: Contest, entries: Sequence[Entry], limits: CopyLimits) -> dict[tuple[int, int], str]:
    """(i, j) with i before j -> why they are one model, or j a mixture of which i is a part.

    Args:
        entries: those of the contest that were measured, the first commitment first.
    """
    return {**_evidence_of_mixtures(entries, limits), **_evidence_of_pairs(contest, entries, limits)}


def first_of_groups(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """[count]: the first of each one's group, over any number of links."""
    group = list(range(count))
    for i, j in pairs:
        old, new = max(group[i], group[j]), min(group[i], group[j])
        group = [new if each == old else each for each in group]
    return group


def copied_before(entry: Entry, contest: Contest, limits: CopyLimits) -> Copy | None:
    """The winner of an earlier task that an entry repeats, the last of them."""
    found = None
    for winner in contest.earlier:
        if winner.hotkey == entry.hotkey:
            continue
        if why := same_model(entry.fingerprint, winner.fingerprint, likeness=limits.likeness):
            found = Copy(winner.hotkey, f"it won task {winner.task_id}, and {why}")
    return found


def row_ratios(rows: np.ndarray, base: np.ndarray) -> np.ndarray:
    """[k, k]: the spread of each pair's row differences in parts of the smaller distance from the base.

    Args:
        rows: [k, n], the values of k entries.
        base: [n].
    """
    moved = rows - base
    centred = moved - moved.mean(axis=1, keepdims=True)
    own = (centred**2).sum(axis=1)
    # The sum of squares of a difference, by differences and not by the product of sums: it must be exact where it is small.
    between = np.stack([((centred - one) ** 2).sum(axis=1) for one in centred])
    smaller = np.minimum(own[:, None], own[None, :])
    ratios = np.full(between.shape, np.inf)  # of a pair that has not moved against the base: not to be told by its rows
    np.divide(between, smaller, out=ratios, where=smaller > 0)
    found: np.ndarray = np.sqrt(ratios)
    return found


def _evidence_of_pairs(contest: Contest, entries: Sequence[Entry], limits: CopyLimits) -> dict[tuple[int, int], str]:
    """(i, j) with i before j -> why they are one model."""
    if len(entries) < 2:
        return {}
    ratios = _ratios(contest, entries)
    found = {}
    for i, j in combinations(range(len(entries)), 2):
        one, other = entries[i].fingerprint, entries[j].fingerprint
        if evidence := same_model(one, other, likeness=limits.likeness):
            found[i, j] = evidence
        elif ratios[i, j] <= limits.row_ratio:
            if one and other and one.outputs and similarity(one.outputs, other.outputs) < limits.output_cosine:
                continue
            found[i, j] = f"their values move together from row to row (ratio {ratios[i, j]:.4f})"
    return found


def _ratios(contest: Contest, entries: Sequence[Entry]) -> np.ndarray:
    """[k, k]: the ratios of pairs, each over the rows that both have."""
    counts = [len(entry.rows) for entry in entries]
    found = np.full((len(entries), len(entries)), np.inf)
    for known in sorted(set(counts)):  # the more rows, the later: what few of them say is overwritten
        longer = [i for i, count in enumerate(counts) if count >= known]
        so_far = contest.after(known, [entries[i] for i in longer])
        rows = np.array([entry.rows for entry in so_far.entries])
        found[np.ix_(longer, longer)] = row_ratios(rows, np.array(so_far.base))
    return found


def _evidence_of_mixtures(entries: Sequence[Entry], limits: CopyLimits) -> dict[tuple[int, int], str]:
    """(i, k) -> why entry k is an average of the earlier entry i and another earlier one, of which i has the larger part."""
    known = [k for k, entry in enumerate(entries) if entry.fingerprint and any(entry.fingerprint.update)]
    sketches = [
        np.array(entry.fingerprint.update) for entry in entries if entry.fingerprint and any(entry.fingerprint.update)
    ]
    if len({len(sketch) for sketch in sketches}) != 1:
        return {}
    unit = np.stack([sketch / np.linalg.norm(sketch) for sketch in sketches])
    alike = unit @ unit.T
    found = {}
    for k in range(2, len(unit)):
        mine, between = alike[k, :k], alike[:k, :k]
        apart = 1.0 - between**2
        apart[apart < 0.01] = np.inf  # two that are one direction explain nothing together
        parts = (mine[:, None] - mine[None, :] * between) / apart  # [i, j]: how much of i there is beside j
        explained = np.sqrt(np.maximum(parts * mine[:, None] + parts.T * mine[None, :], 0.0))
        explained[np.minimum(parts, parts.T) < limits.mixture_part] = 0.0
        i, j = np.unravel_index(int(explained.argmax()), explained.shape)
        if explained[i, j] >= limits.mixture_cosine:
            i, j = (i, j) if parts[i, j] >= parts[j, i] else (j, i)
            two = f"{entries[known[i]].hotkey}'s and {entries[known[j]].hotkey}'s"
            found[known[i], known[k]] = f"its update is a mixture of {two} (cosine {explained[i, j]:.4f})"
    return found


def _linked(entries: Sequence[Entry], pairs: dict[tuple[int, int], str]) -> dict[Hotkey, tuple[Hotkey, str]]:
    """Groups of linked entries; everybody but the first of a group -> that first one, and the evidence."""
    found = {}
    for j, first in enumerate(first_of_groups(len(entries), pairs)):
        if first != j:
            direct = pairs.get((first, j)) or next(why for pair, why in pairs.items() if j in pair)
            found[entries[j].hotkey] = (entries[first].hotkey, direct)
    return found
