"""Which reader reads a file. No format that can carry code is read.

Whatever cannot be read is one DatasetInvalid that names the row, and the line in formats of lines. Rows are counted as they are given out,
from 1 on and without blank lines, here as everywhere; and they are given out one by one, so that whoever reads may stop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from gradients.datasets.arrow_rows import arrow_rows, parquet_rows
from gradients.datasets.image_folders import folder_rows, has_images, zip_rows
from gradients.datasets.json_rows import json_rows
from gradients.datasets.rows import Row
from gradients.datasets.tables import table_rows
from gradients.errors import DatasetInvalid

_ROOM = 8  # bytes of a file for each character that a row may have: escapes, and columns that nobody reads


def rows_in(path: Path, wanted: Collection[str] | None = None, *, row_characters: int) -> Iterator[Row]:
    """The rows of a file or folder, by its ending. Raises DatasetInvalid, also for an ending that no reader has.

    Args:
        wanted: names among which those of the columns are that the task reads; tables convert no others. None: all.
        row_characters: what one row may have; longer ones are never taken into memory as a whole.
    """
    if path.is_dir():
        return folder_rows(path) if has_images(path) else _shards(path, wanted, row_characters=row_characters)
    if (reader := READERS.get(path.suffix.lower())) is None:
        raise DatasetInvalid(
            f"{path.name} has no ending that says its format",
            fix=f"Use one of {', '.join(ENDINGS)} (unpacked), or a folder saved by `datasets`",
        )
    return reader(path, wanted, row_characters)


def _shards(folder: Path, wanted: Collection[str] | None, *, row_characters: int) -> Iterator[Row]:
    """What `Dataset.save_to_disk` left, or files of one format that are one data set together."""
    if (folder / "state.json").is_file() and (files := sorted(folder.glob("data-*.arrow"))):
        for file in files:
            yield from arrow_rows(file, wanted, most=row_characters)
        return
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in READERS and file.is_file())
    if len({file.suffix.lower() for file in files}) != 1:
        raise DatasetInvalid(
            f"{folder} was not saved by `datasets`, and does not hold files of one format",
            fix="Name the folder of one split, or one file",
        )
    for file in files:
        yield from rows_in(file, wanted, row_characters=row_characters)


READERS: dict[str, Callable[[Path, Collection[str] | None, int], Iterator[Row]]] = {
    ".jsonl": lambda path, _, most: json_rows(path, most=_ROOM * most),
    ".json": lambda path, _, most: json_rows(path, most=_ROOM * most),
    ".csv": lambda path, wanted, most: table_rows(path, wanted, most=_ROOM * most),
    ".parquet": lambda path, wanted, most: parquet_rows(path, wanted, most=most),
    ".zip": lambda path, _, most: zip_rows(path),
    ".tsv": lambda path, wanted, most: table_rows(path, wanted, most=_ROOM * most),
}
ENDINGS = tuple(READERS)  # of files that can be read, in lower case
