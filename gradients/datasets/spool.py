"""Sequences that lie on the disk, so that memory goes by the number of rows and not by what they say.

Covers: values that JSON can write, in the order in which they came; reading any of them, or all one after the other; views that pick some
or make something of each. The file has no name, so it is gone with the sequence. Values that JSON has no word for, such as dates, come back
as NotJson, which nothing takes for text.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

from gradients.files.unnamed import unnamed_file

Value = TypeVar("Value")
Source = TypeVar("Source")
_WINDOW_BYTES = 1024 * 1024
_NOT_JSON = "\ud800not JSON"  # a key that no text can hold: it begins with half a character


@dataclass(frozen=True, slots=True)
class NotJson:
    """What stood where JSON has no word for it, as text for people."""

    text: str

    def __str__(self) -> str:
        return self.text


class OnDisk(Sequence[Value]):
    """What sequences here have in common: slices are lists, and equal values in equal order are equal."""

    def _at(self, position: int) -> Value:
        raise NotImplementedError

    @overload
    def __getitem__(self, position: int) -> Value: ...
    @overload
    def __getitem__(self, position: slice) -> list[Value]: ...

    def __getitem__(self, position: int | slice) -> Value | list[Value]:
        if isinstance(position, slice):
            return [self._at(each) for each in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(position)
        return self._at(position % len(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(ours == theirs for ours, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it grows

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)}>"


class Spool(OnDisk[Value]):
    """Values in a file of their own."""

    def __init__(
        self,
        *,
        to_json: Callable[[Value], Any] = lambda value: value,  # Any: whatever JSON takes
        of_json: Callable[[Any], Value] = lambda read: read,
    ) -> None:
        """Args:
        to_json: what is written for a value.
        of_json: the value again.
        """
        self._to_json, self._of_json = to_json, of_json
        self._file = unnamed_file(self)
        self._ends = array("Q", [0])

    def append(self, value: Value) -> None:
        """Add a value at the end."""
        text = json.dumps(self._to_json(value), ensure_ascii=False, separators=(",", ":"), default=_not_json)
        self._ends.append(self._ends[-1] + self._file.write(text.encode("utf-8", "surrogatepass")))

    @property
    def size_bytes(self) -> int:
        """What the values take in their file."""
        return self._ends[-1]

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[Value]:
        self._file.flush()
        descriptor, window, begun = self._file.fileno(), b"", 0
        for position in range(len(self)):
            start, end = self._ends[position], self._ends[position + 1]
            if end > begun + len(window):
                window, begun = os.pread(descriptor, max(end - start, _WINDOW_BYTES), start), start
            yield self._read(window[start - begun : end - begun])

    def _at(self, position: int) -> Value:
        self._file.flush()
        start, end = self._ends[position], self._ends[position + 1]
        return self._read(os.pread(self._file.fileno(), end - start, start))

    def _read(self, line: bytes) -> Value:
        return self._of_json(json.loads(line.decode("utf-8", "surrogatepass"), object_hook=_again))


class Picked(OnDisk[Value]):
    """Some values of another sequence, in their own order."""

    def __init__(self, whole: Sequence[Value], positions: Sequence[int]) -> None:
        self._whole, self._positions = whole, positions

    def __len__(self) -> int:
        return len(self._positions)

    def _at(self, position: int) -> Value:
        return self._whole[self._positions[position]]


class Made(OnDisk[Value], Generic[Source, Value]):
    """What a function makes of each value of another sequence, anew whenever it is asked for."""

    def __init__(self, whole: Sequence[Source], make: Callable[[Source], Value]) -> None:
        self._whole, self._make = whole, make

    def __len__(self) -> int:
        return len(self._whole)

    def __iter__(self) -> Iterator[Value]:
        return map(self._make, self._whole)

    def _at(self, position: int) -> Value:
        return self._make(self._whole[position])


def _not_json(value: object) -> dict[str, str]:
    return {_NOT_JSON: str(value)}


def _again(read: dict[str, Any]) -> object:  # Any: JSON
    return NotJson(read[_NOT_JSON]) if _NOT_JSON in read else read
