"""Rows written as JSON, read one by one so that they mean one thing: UTF-8, no key twice, NaN an empty cell.

Covers: lists of rows, objects that hold one under "data", and lines, whatever the file is called; no row longer than may be kept is
ever taken into memory. Does not cover: what rows mean.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO, cast

from gradients.datasets.rows import Row
from gradients.errors import DatasetInvalid

CHUNK_CHARACTERS = 64 * 1024
_SPACE = " \t\n\r"
_FORMS = 'Write [{…}, …], {"data": [{…}, …]}, or one object per line'


def json_rows(path: Path, *, most: int) -> Iterator[Row]:
    """The rows of a file; none may have more than `most` characters of JSON. Raises DatasetInvalid with row numbers."""
    with path.open("rb") as file:
        begin = file.read(CHUNK_CHARACTERS).removeprefix(b"\xef\xbb\xbf").lstrip()
        file.seek(0)
        is_json = path.suffix.lower() == ".json"
        if begin[:1] == b"[" or (begin[:1] == b"{" and is_json and not _begins_lines(begin)):
            with io.TextIOWrapper(file, encoding="utf-8-sig") as text:
                yield from _listed(text, path.name, most)
        elif is_json and begin[:1] != b"{":
            said = "is empty" if not begin else "does not hold a list of rows"
            raise DatasetInvalid(f"{path.name} {said}", fix=_FORMS)
        else:
            yield from rows_of_lines(bounded_lines(file, path.name, most=most), path.name)


def rows_of_lines(lines: Iterable[bytes], name: str) -> Iterator[Row]:
    """One object per line of the file `name`; a line with nothing in it is not a row. Raises DatasetInvalid with row and line."""
    number = 0
    for line, raw in enumerate(lines, start=1):
        if not raw.strip():
            continue
        number += 1
        where = f"Row {number} of {name} (line {line})"
        try:
            row = _DECODER.decode(raw.decode("utf-8-sig").strip())
        except UnicodeDecodeError as error:
            raise DatasetInvalid(f"{where} is not UTF-8", rows=[number], fix="Save the file as UTF-8") from error
        except (ValueError, RecursionError) as error:
            problem = f"{where} is not valid JSON: {_reason(error)}"
            raise DatasetInvalid(problem, rows=[number], fix="Write one object per line") from error
        yield _row_object(row, number, where)


def bounded_lines(file: io.BufferedIOBase, name: str, *, most: int) -> Iterator[bytes]:
    """The file's lines; of a line with more than `most` bytes no more is read. Raises DatasetInvalid."""
    for number in itertools.count(1):
        line = file.readline(most + 1)
        if len(line) > most:
            raise DatasetInvalid(f"Line {number} of {name} has more than {most:,} bytes", fix="Write one row per line")
        if not line:
            return
        yield line


def _begins_lines(begin: bytes) -> bool:
    """Whether the first line is an object by itself and something follows it."""
    line, _, rest = begin.partition(b"\n")
    try:
        return bool(rest.strip()) and isinstance(_DECODER.decode(line.decode("utf-8").strip()), dict)
    except (ValueError, RecursionError):
        return False


def _listed(text: TextIO, name: str, most: int) -> Iterator[Row]:
    """The rows of a list, or of the list that an object holds under "data"."""
    values = _Values(text, most=most)
    number = 0
    try:
        if values.takes("{") and not _at_data(values):
            raise DatasetInvalid(f"{name} does not hold a list of rows", fix=_FORMS)
        values.expect("[")
        if not values.takes("]"):
            for number in itertools.count(1):
                yield _row_object(values.value(), number, f"Row {number} of {name}")
                if not values.takes(","):
                    values.expect("]")
                    break
    except _TooLong as error:
        problem = f"Row {number} of {name} has more than {most:,} characters"
        raise DatasetInvalid(problem, rows=[number], fix="Split or remove it") from error
    except UnicodeDecodeError as error:
        raise DatasetInvalid(f"{name} is not UTF-8", fix="Save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        where = f"Row {number} of {name}" if number else name
        problem = f"{where} is not valid JSON: {_reason(error)}"
        raise DatasetInvalid(problem, rows=[number] if number else [], fix="Check how it was written") from error


def _at_data(values: _Values) -> bool:
    """Whether an object has a list under "data"; what stands before it is passed over."""
    if values.takes("}"):
        return False
    while True:
        key = values.value()
        values.expect(":")
        if key == "data" and values.next() == "[":
            return True
        values.value()
        if not values.takes(","):
            return False


class _TooLong(ValueError):
    """A value that is longer than may be kept."""


class _Values:
    """Takes JSON values and signs one by one from a text of any length."""

    def __init__(self, text: TextIO, *, most: int) -> None:
        self._text, self._most = text, most
        self._buffer, self._at, self._ended = "", 0, False

    def next(self) -> str:
        """The next character that is not a space, which stays; empty at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._buffer) or not self._more():
                return self._buffer[self._at : self._at + 1]

    def takes(self, sign: str) -> bool:
        """Whether the next character is the sign, which is passed then."""
        found = self.next() == sign
        self._at += found
        return found

    def expect(self, sign: str) -> None:
        """Pass the sign. Raises ValueError when something else comes."""
        if not self.takes(sign):
            raise ValueError(f"'{sign}' is missing")

    def value(self) -> object:
        """The next value. Raises ValueError."""
        self.next()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError:
                if not self._more():
                    raise
                continue
            if end == len(self._buffer) and self._more():  # a number may go on
                continue
            self._at = end
            return found

    def _more(self) -> bool:
        """Whether there was more to read; as much again as is waiting, so that long values are not begun too often."""
        waiting = self._buffer[self._at :]
        if len(waiting) > self._most:
            raise _TooLong
        read = "" if self._ended else self._text.read(max(CHUNK_CHARACTERS, len(waiting)))
        self._ended = not read
        self._buffer, self._at = waiting + read, 0
        return bool(read)


def _row_object(value: object, number: int, where: str) -> Row:
    """A JSON value as a row. Raises DatasetInvalid when it is not an object."""
    if not isinstance(value, dict):
        raise DatasetInvalid(f"{where} is not an object", rows=[number], fix='Each row is {"column": value}')
    return cast(Row, value)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for place, (key, _) in enumerate(pairs) if any(key == other for other, _ in pairs[:place]))
        raise ValueError(f"a key stands twice in one object: {twice!r}")
    return found


def _constant(name: str) -> None:
    """NaN is how tables write an empty cell; the infinities are not values that somebody meant."""
    if name != "NaN":
        raise ValueError(f"{name} is not a JSON number")


def _reason(error: ValueError | RecursionError) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


_DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats, parse_constant=_constant)
