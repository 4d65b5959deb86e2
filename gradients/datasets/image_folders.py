"""Folders and zip archives of captioned images as rows: {"image": base64, "caption": text}, or the columns of their `metadata.jsonl`.

Covers: nothing is unpacked onto the disk; names that lead out of the folder, links and encrypted members are refused; an archive's size and
number of members are looked at before it is opened, and members are read within limits on their number and on what they unpack to;
whatever is broken in an archive is the customer's DatasetInvalid. Does not cover: whether the bytes are an image (pictures.py).
"""

from __future__ import annotations

import base64
import errno
import json
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import cast

from gradients.datasets.rows import Row
from gradients.errors import DatasetInvalid

IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp"})
METADATA = "metadata.jsonl"  # one object a line with "file_name", as `datasets` reads image folders
MOST_FILES = 1000
MOST_FILE_BYTES = 16 * 1024**2
MOST_BYTES = 96 * 1024**2
MOST_CAPTION_BYTES = 64 * 1024
MOST_MEMBERS = 10_000  # of an archive, with those that are not shown
MOST_ARCHIVE_BYTES = MOST_BYTES + 16 * 1024**2
_MEMBER = b"PK\x01\x02"  # begins each entry of an archive's table of contents
# What zipfile, the decoders below it and names in no encoding raise.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    ArithmeticError, EOFError, LookupError, RuntimeError, ValueError,
)  # fmt: skip

Members = Mapping[str, Callable[[int], bytes]]  # by name: what reads at most so many bytes of it


def has_images(folder: Path) -> bool:
    """Whether a folder holds images."""
    return any(file.suffix.lower() in IMAGE_ENDINGS for file in folder.rglob("*"))


def folder_rows(folder: Path) -> Iterator[Row]:
    """The captioned images in a folder."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    return _rows({file.relative_to(folder).as_posix(): _file_reader(file) for file in files}, where=folder.name)


def zip_rows(path: Path) -> Iterator[Row]:
    """The captioned images in a zip archive."""
    _check_archive(path)
    with _blaming(f"{path.name} is no valid zip archive", fix="Was it copied whole?"), zipfile.ZipFile(path) as archive:
        members = {info.filename: _member_reader(archive, info, path) for info in _members(archive, path)}
        yield from _rows(members, where=path.name)


def _check_archive(path: Path) -> None:
    """Raises DatasetInvalid for more than a task needs; `zipfile` would read the whole table of contents first."""
    if path.stat().st_size > MOST_ARCHIVE_BYTES:
        raise DatasetInvalid(f"{path.name} has more than {MOST_ARCHIVE_BYTES:,} bytes", fix="Give a part of it")
    if path.read_bytes().count(_MEMBER) > MOST_MEMBERS:
        raise DatasetInvalid(f"{path.name} holds more than {MOST_MEMBERS:,} members", fix="Give the images of one task")


@contextmanager
def _blaming(what: str, *, fix: str) -> Iterator[None]:
    """What a broken archive raises is the customer's; what a disk raises is not."""
    try:
        yield
    except _BROKEN as error:
        raise DatasetInvalid(f"{what}: {error}", fix=fix) from error
    except OSError as error:  # bzip2's without a number, and seeks to before the beginning
        if error.errno not in (None, errno.EINVAL):
            raise
        raise DatasetInvalid(f"{what}: {error}", fix=fix) from error


def _rows(members: Members, *, where: str) -> Iterator[Row]:
    shown = {name: read for name, read in members.items() if _is_shown(name)}
    if len(shown) > MOST_FILES:
        raise DatasetInvalid(f"{where} holds more than {MOST_FILES} files", fix="Give the images of one task")
    budget = _Budget(where)
    listing = next((name for name in shown if PurePosixPath(name).name == METADATA), None)
    return _listed(shown, listing, budget) if listing else _beside(shown, budget)


def _beside(members: Members, budget: _Budget) -> Iterator[Row]:
    """Each image with the caption in the text file of the same name; without one the caption is empty."""
    for name in sorted(members):
        if PurePosixPath(name).suffix.lower() in IMAGE_ENDINGS:
            caption = members.get(str(PurePosixPath(name).with_suffix(".txt")))
            words = _text(caption(MOST_CAPTION_BYTES), name, budget) if caption else ""
            yield {"image": _encoded(budget.read(members[name], name)), "caption": words}


def _listed(members: Members, listing: str, budget: _Budget) -> Iterator[Row]:
    """The lines of a metadata file, each with its image beside the other columns."""
    folder = PurePosixPath(listing).parent
    for number, line in enumerate(budget.read(members[listing], listing).splitlines(), start=1):
        row = _object(line, listing, number)
        name = str(folder / str(row.pop("file_name", "")))
        if name not in members:
            raise DatasetInvalid(
                f"Row {number} of {listing} names no file that is there",
                rows=[number],
                fix="file_name is relative to it",
            )
        yield {"image": _encoded(budget.read(members[name], name)), **cast(Row, row)}


class _Budget:
    """How many bytes may still be read."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._left = MOST_BYTES

    def read(self, read: Callable[[int], bytes], name: str) -> bytes:
        """The whole content. Raises DatasetInvalid when it, or all so far, is too large."""
        content = read(MOST_FILE_BYTES + 1)
        self._left -= len(content)
        if len(content) > MOST_FILE_BYTES:
            raise DatasetInvalid(f"{name} has more than {MOST_FILE_BYTES:,} bytes", fix="Make the image smaller")
        if self._left < 0:
            raise DatasetInvalid(f"{self._where} unpacks to more than {MOST_BYTES:,} bytes", fix="Give a part of it")
        return content


def _members(archive: zipfile.ZipFile, path: Path) -> Iterator[zipfile.ZipInfo]:
    """The files of an archive. Raises DatasetInvalid for members that an archive of images has no use for."""
    for info in archive.infolist():
        pure = PurePosixPath(info.filename)
        if pure.is_absolute() or ".." in pure.parts or "\\" in info.filename:
            raise DatasetInvalid(f"{path.name} has a member outside of itself: {info.filename!r}", fix="Pack it anew")
        if info.flag_bits & 1 or stat.S_ISLNK(info.external_attr >> 16):
            raise DatasetInvalid(f"{info.filename!r} in {path.name} is encrypted or a link", fix="Pack plain files")
        if not info.is_dir():
            yield info


def _member_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Callable[[int], bytes]:
    def read(most: int) -> bytes:
        with _blaming(f"{info.filename!r} in {path.name} is broken", fix="Pack it anew"), archive.open(info) as member:
            return member.read(most)

    return read


def _file_reader(file: Path) -> Callable[[int], bytes]:
    def read(most: int) -> bytes:
        with file.open("rb") as stream:
            return stream.read(most)

    return read


def _is_shown(name: str) -> bool:
    """Not what systems leave in folders: `__MACOSX`, `.DS_Store`."""
    return not any(part.startswith((".", "__")) for part in PurePosixPath(name).parts)


def _object(line: bytes, listing: str, number: int) -> dict[str, object]:
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError) as error:
        raise DatasetInvalid(f"Row {number} of {listing} is no valid JSON: {error}", rows=[number]) from error
    if not isinstance(row, dict):
        raise DatasetInvalid(f"Row {number} of {listing} is no object", rows=[number])
    return row


def _text(content: bytes, name: str, budget: _Budget) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetInvalid(f"The caption of {name} is not UTF-8", fix="Save it as UTF-8") from error


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
