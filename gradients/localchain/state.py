"""The chain's state: encoded values under storage keys, as of the newest block and of the blocks shortly before it.

Only the newest state is held in full. Each kept block remembers what stood, before it, where it wrote; a past state is the newest one
seen through those layers. So 300 blocks of a subnet with 256 neurons cost what they changed, not 300 copies.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from itertools import islice
from typing import TypeVar

from gradients.localchain.hashing import PREFIX_BYTES, storage_key
from gradients.localchain.pallets.declare import Storage
from gradients.localchain.scale.compact import Reader

T = TypeVar("T")
Changes = Mapping[bytes, bytes | None]  # storage key -> encoded value; None where nothing stands
Shelves = Mapping[bytes, Mapping[bytes, bytes]]  # item prefix -> storage key -> encoded value

KEPT_BLOCKS = 300


class StatePrunedError(Exception):
    """The state of a block is not kept any more."""


class View:
    """The state at one block, read with the items' own types. `layers` hide what is on the shelves, the first one most."""

    def __init__(self, shelves: Shelves, layers: tuple[Changes, ...] = ()) -> None:
        self._shelves = shelves
        self._layers = layers

    def raw(self, key: bytes) -> bytes | None:
        """The encoded value under a storage key."""
        for layer in self._layers:
            if key in layer:
                return layer[key]
        return self._shelves.get(key[:PREFIX_BYTES], {}).get(key)

    def raw_keys(self, prefix: bytes) -> list[bytes]:
        """All storage keys that start with `prefix` (which names at least an item), in order."""
        keys = {key for key in self._shelves.get(prefix[:PREFIX_BYTES], {}) if key.startswith(prefix)}
        for layer in reversed(self._layers):
            for key, value in layer.items():
                if key.startswith(prefix):
                    (keys.discard if value is None else keys.add)(key)
        return sorted(keys)

    def get(self, item: Storage[T], *keys: int | bytes) -> T:
        """The item's value, or its default where nothing was written."""
        encoded = self.raw(storage_key(item, keys))
        if encoded is None:
            return item.default if item.optional else item.type.decode(Reader(item.default_bytes))
        return item.type.decode(Reader(encoded))

    def has(self, item: Storage[T], *keys: int | bytes) -> bool:
        """Whether something was written there."""
        return self.raw(storage_key(item, keys)) is not None

    def entries(self, item: Storage[T], *first: int | bytes) -> dict[tuple[int | bytes, ...], T]:
        """All entries of a map under its first keys: the other keys -> value."""
        entries = {}
        for key in self.raw_keys(storage_key(item, first)):
            reader = Reader(key, PREFIX_BYTES)
            parts = []
            for each in item.keys:
                reader.take(each.hasher.hash_bytes)
                parts.append(each.type.decode(reader))
            encoded = self.raw(key)
            assert encoded is not None  # noqa: S101 (raw_keys lists only what stands)
            entries[tuple(parts[len(first) :])] = item.type.decode(Reader(encoded))
        return entries


class Draft(View):
    """A view that can be written: the state that the next block will leave."""

    def __init__(self, below: View) -> None:
        self._writes: dict[bytes, bytes | None] = {}
        super().__init__(below._shelves, (self._writes, *below._layers))

    @property
    def writes(self) -> Changes:
        """What was written so far."""
        return self._writes

    def put(self, item: Storage[T], *keys: int | bytes, value: T) -> None:
        """Write the item's value."""
        self._writes[storage_key(item, keys)] = item.type.encode(value)

    def put_raw(self, key: bytes, encoded: bytes) -> None:
        """Write an encoded value."""
        self._writes[key] = encoded

    def delete(self, item: Storage[T], *keys: int | bytes) -> None:
        """Take the entry away; it then reads as its default."""
        self._writes[storage_key(item, keys)] = None

    def savepoint(self) -> Changes:
        """What to hand to `rollback`."""
        return dict(self._writes)

    def rollback(self, saved: Changes) -> None:
        """Forget every write since `savepoint`."""
        self._writes.clear()
        self._writes.update(saved)


class State:
    """The newest state and the way back from it."""

    def __init__(self, values: Changes, *, number: int, undo: Mapping[int, Changes] | None = None) -> None:
        self.number = number
        self._shelves: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
        self._undo: deque[Changes] = deque((undo or {}).values(), maxlen=KEPT_BLOCKS)
        self._write(values)

    @property
    def oldest(self) -> int:
        """The oldest block whose state is kept."""
        return self.number - len(self._undo)

    def head(self) -> View:
        """The newest state."""
        return View(self._shelves)

    def at(self, number: int) -> View:
        """The state that block `number` left. Raises StatePrunedError."""
        if not self.oldest <= number <= self.number:
            raise StatePrunedError(f"block {number} is outside {self.oldest}..{self.number}")
        return View(self._shelves, tuple(islice(self._undo, number - self.oldest, None)))

    def undo_of(self, changes: Changes) -> Changes:
        """What stands now where `changes` will write."""
        head = self.head()
        return {key: head.raw(key) for key in changes}

    def advance(self, changes: Changes, undo: Changes) -> None:
        """Make `changes` the newest block's."""
        self._write(changes)
        self._undo.append(undo)
        self.number += 1

    def _write(self, changes: Changes) -> None:
        for key, value in changes.items():
            shelf = self._shelves[key[:PREFIX_BYTES]]
            if value is None:
                shelf.pop(key, None)
            else:
                shelf[key] = value
