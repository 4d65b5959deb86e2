"""Sets of numbers, millions of them, on the disk: what each text says, as runs of words, and sketches of it.

Covers: sets are sorted arrays of 32-bit numbers in one file, read one by one or in blocks; memory goes by a block, and by 252 bytes for the
sketch of each set. Nothing here knows what the numbers stand for.
"""

from __future__ import annotations

import itertools
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradients.files.unnamed import unnamed_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.uint32]  # sorted, each once

_ITEM_BYTES = 4
_BLOCK = 2**20  # numbers that are looked at together
_COUNTED = 2**23  # numbers that are counted together


class Block(NamedTuple):
    """Some sets after one another."""

    first: int  # position of its first set
    numbers: Numbers  # of all of its sets
    starts: NDArray[np.int64]  # [sets + 1], where each one begins, and the end


class Sets(Sequence["Numbers"]):
    """Sets in the order in which they were added."""

    def __init__(self, sets: Iterable[Numbers] = ()) -> None:
        self._file = unnamed_file(self)
        self._ends = array("Q", [0])  # in numbers
        for one in sets:
            self.append(one)

    def append(self, one: Numbers) -> None:
        """Add a set."""
        self._file.write(one.tobytes())
        self._ends.append(self._ends[-1] + len(one))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, position: int) -> Numbers:  # type: ignore[override]  # nobody asks for slices
        self._file.flush()
        start, end = self._ends[position], self._ends[position + 1]
        return np.frombuffer(os.pread(self._file.fileno(), (end - start) * _ITEM_BYTES, start * _ITEM_BYTES), np.uint32)

    def __iter__(self) -> Iterator[Numbers]:
        for block in self.blocks():
            for start, end in zip(block.starts[:-1], block.starts[1:], strict=True):
                yield block.numbers[start:end]

    def blocks(self) -> Iterator[Block]:
        """All sets, in blocks of whole ones."""
        self._file.flush()
        ends = np.frombuffer(self._ends, np.uint64).astype(np.int64)
        first = 0
        while first < len(self):
            after = int(np.searchsorted(ends, ends[first] + _BLOCK, side="right")) - 1
            after = max(after, first + 1)
            size = int(ends[after] - ends[first]) * _ITEM_BYTES
            read = os.pread(self._file.fileno(), size, int(ends[first]) * _ITEM_BYTES)
            yield Block(first, np.frombuffer(read, np.uint32), ends[first : after + 1] - ends[first])
            first = after

    def sizes(self) -> NDArray[np.int64]:
        """How many numbers each set has."""
        ends: NDArray[np.int64] = np.frombuffer(self._ends, np.uint64).astype(np.int64)
        return ends[1:] - ends[:-1]

    def in_more_than(self, sets: int) -> tuple[Numbers, NDArray[np.int64]]:
        """The numbers that more than so many sets hold, sorted, and how many sets hold each."""
        parts = max(1, -(-self._ends[-1] // _COUNTED))
        edges = np.linspace(0, 2**32, parts + 1).astype(np.int64)
        numbers, counts = [], []
        for low, high in itertools.pairwise(edges.tolist()):
            some = [block.numbers[(block.numbers >= low) & (block.numbers < high)] for block in self.blocks()]
            found, holders = np.unique(np.concatenate(some or [np.empty(0, np.uint32)]), return_counts=True)
            numbers.append(found[holders > sets])
            counts.append(holders[holders > sets])
        return np.concatenate(numbers), np.concatenate(counts)

    def without(self, taken: Numbers, *, or_whole: bool) -> Sets:
        """Each set less what is `taken`.

        Args:
            or_whole: whether a set of which nothing would be left stays as it is.
        """
        made = Sets()
        for block in self.blocks():
            own = ~_within(block.numbers, taken)
            left = _sums(own, block.starts)
            if or_whole:
                own |= np.repeat(left == 0, np.diff(block.starts))
                left = _sums(own, block.starts)
            made._file.write(block.numbers[own].tobytes())
            ends = made._ends[-1] + np.cumsum(left)
            made._ends.frombytes(ends.astype(np.uint64).tobytes())
        return made

    def shares_of(self, taken: Numbers) -> NDArray[np.int64]:
        """How many of each set's numbers are not `taken`."""
        left = [_sums(~_within(block.numbers, taken), block.starts) for block in self.blocks()]
        return np.concatenate(left or [np.empty(0, np.int64)])

    def some(self, positions: Sequence[int]) -> Sets:
        """The sets at these positions, in their order."""
        return Sets(self[position] for position in positions)

    def in_all(self) -> Numbers:
        """The numbers that every set holds."""
        both: Numbers | None = None
        for one in self:
            both = one if both is None else np.intersect1d(both, one, assume_unique=True)
            if not len(both):
                break
        return np.empty(0, np.uint32) if both is None else both

    def sketches(self, permutations: int) -> NDArray[np.uint32]:
        """[sets, permutations]: datasketch's MinHash (affine32) of each set, whose numbers stand for themselves."""
        from datasketch import MinHash

        factors, terms = MinHash(num_perm=permutations).permutations
        made = np.full((len(self), permutations), 2**32 - 1, np.uint32)
        for block in self.blocks():
            there = np.flatnonzero(np.diff(block.starts))
            mixed, starts = _mixed(block.numbers), block.starts[there]
            for column, (factor, term) in enumerate(zip(factors, terms, strict=True)):
                if len(there):
                    made[block.first + there, column] = np.minimum.reduceat(mixed * factor + term, starts)
        return made


def _mixed(numbers: Numbers) -> Numbers:
    """MurmurHash3's last step, which datasketch takes before its permutations."""
    mixed: Numbers = numbers ^ (numbers >> np.uint32(16))
    mixed = mixed * np.uint32(0x85EBCA6B)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0xC2B2AE35)
    mixed ^= mixed >> np.uint32(16)
    return mixed


def _within(numbers: Numbers, sorted_ones: Numbers) -> NDArray[np.bool_]:
    """Which of the numbers are among the sorted ones."""
    if not len(sorted_ones):
        return np.zeros(len(numbers), np.bool_)
    places = np.searchsorted(sorted_ones, numbers)
    found: NDArray[np.bool_] = sorted_ones[np.minimum(places, len(sorted_ones) - 1)] == numbers
    return found


def _sums(marks: NDArray[np.bool_], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many marks lie between each two starts."""
    before: NDArray[np.int64] = np.concatenate([[0], np.cumsum(marks)])
    sums: NDArray[np.int64] = before[starts[1:]] - before[starts[:-1]]
    return sums
