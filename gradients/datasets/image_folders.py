"""Folders and zip archives of captioned images as rows: {"image": base64, "caption": text}, or the columns of their `metadata.jsonl`.

Covers: nothing is unpacked onto the disk; names that lead out of the folder, links and encrypted members are refused; an archive's size and
number of members are looked at before it is opened, and members are read within limits on their number and on what they unpack to;
whatever is broken in an archive is the customer's DatasetInvalid. Does not cover: whether the bytes are an image (images.py).
"""

from __future__ import annotations

import base64
import errno
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from gradients.datasets.json_rows import rows_of_lines
from gradients.datasets.rows import Row
from gradients.datasets.sources import MOST_IMAGE_BYTES
from gradients.errors import DatasetInvalid

IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".webp"})
METADATA = "metadata.jsonl"  # one object a line with "file_name", as `datasets` reads image folders
MOST_FILES = 1000
MOST_BYTES = 96 * 1024**2  # of all files, unpacked
MOST_CAPTION_BYTES = 64 * 1024
MOST_MEMBERS = 10_000  # of an archive, with those that are not shown
MOST_ARCHIVE_BYTES = MOST_BYTES + MOST_IMAGE_BYTES  # with room for what is not shown
_MEMBER = b"PK\x01\x02"  # begins each entry of an archive's table of contents
_HIDDEN = (".", "__")  # begins what systems leave in folders: `__MACOSX`, `.DS_Store`
# What zipfile, the decoders below it and names in no encoding raise.
_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    ArithmeticError, EOFError, LookupError, RuntimeError, ValueError,
)  # fmt: skip

Read = Callable[[int], bytes]  # at most so many bytes of a file


def has_images(folder: Path) -> bool:
    """Whether a folder holds images."""
    return any(file.suffix.lower() in IMAGE_ENDINGS for file in folder.rglob("*"))


def folder_rows(folder: Path) -> Iterator[Row]:
    """The captioned images in a folder."""

    def reader(file: Path) -> Read:
        def read(most: int) -> bytes:
            with file.open("rb") as stream:
                return stream.read(most)

        return read

    files = sorted(file for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
    return _rows({file.relative_to(folder).as_posix(): reader(file) for file in files}, where=folder.name)


def zip_rows(path: Path) -> Iterator[Row]:
    """The captioned images in a zip archive."""
    # More than a task needs is refused first: `zipfile` would read the whole table of contents.
    if path.stat().st_size > MOST_ARCHIVE_BYTES:
        raise DatasetInvalid(f"{path.name} has more than {MOST_ARCHIVE_BYTES:,} bytes", fix="Give a part of it")
    if path.read_bytes().count(_MEMBER) > MOST_MEMBERS:
        raise DatasetInvalid(f"{path.name} holds more than {MOST_MEMBERS:,} members", fix="Give the images of one task")

    def reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Read:
        def read(most: int) -> bytes:
            with (
                _blaming(f"{info.filename!r} in {path.name} is broken", fix="Pack it anew"),
                archive.open(info) as member,
            ):
                return member.read(most)

        return read

    with (
        _blaming(f"{path.name} is not a valid zip archive", fix="Was it copied whole?"),
        zipfile.ZipFile(path) as archive,
    ):
        members = {info.filename: reader(archive, info) for info in _members(archive, path)}
        yield from _rows(members, where=path.name)


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


class _Budget:
    """How many bytes may still be read."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._left = MOST_BYTES

    def read(self, read: Read, name: str) -> bytes:
        """The whole content. Raises DatasetInvalid when it, or all so far, is too large."""
        content = read(MOST_IMAGE_BYTES + 1)
        self._left -= len(content)
        if len(content) > MOST_IMAGE_BYTES:
            raise DatasetInvalid(f"{name} has more than {MOST_IMAGE_BYTES:,} bytes", fix="Make the image smaller")
        if self._left < 0:
            raise DatasetInvalid(f"{self._where} unpacks to more than {MOST_BYTES:,} bytes", fix="Give a part of it")
        return content

    def read_image(self, read: Read, name: str) -> str:
        """The whole content as base64. Raises as `read` does."""
        return base64.b64encode(self.read(read, name)).decode()


def _rows(members: Mapping[str, Read], *, where: str) -> Iterator[Row]:
    """A row for each line of the metadata file, if there is one; otherwise for each image, with the caption in the text file beside it."""
    shown = {
        name: read
        for name, read in members.items()
        if not any(part.startswith(_HIDDEN) for part in PurePosixPath(name).parts)
    }
    if len(shown) > MOST_FILES:
        raise DatasetInvalid(f"{where} holds more than {MOST_FILES} files", fix="Give the images of one task")
    budget = _Budget(where)
    if listing := next((name for name in shown if PurePosixPath(name).name == METADATA), None):
        yield from _listed(shown, listing, budget)
        return
    for name in sorted(shown):
        if PurePosixPath(name).suffix.lower() in IMAGE_ENDINGS:
            caption = shown.get(str(PurePosixPath(name).with_suffix(".txt")))
            try:
                words = caption(MOST_CAPTION_BYTES).decode("utf-8-sig") if caption else ""
            except UnicodeDecodeError as error:
                raise DatasetInvalid(f"The caption of {name} is not UTF-8", fix="Save it as UTF-8") from error
            yield {"image": budget.read_image(shown[name], name), "caption": words}


def _listed(members: Mapping[str, Read], listing: str, budget: _Budget) -> Iterator[Row]:
    """The lines of a metadata file, each with its image beside the other columns."""
    lines = budget.read(members[listing], listing).splitlines()
    for number, row in enumerate(rows_of_lines(lines, listing), start=1):
        name = str(PurePosixPath(listing).parent / str(row.get("file_name", "")))
        if name not in members:
            raise DatasetInvalid(
                f"Row {number} of {listing} does not name a file that is there",
                rows=[number],
                fix="file_name is relative to it",
            )
        others = {column: value for column, value in row.items() if column != "file_name"}
        yield {"image": budget.read_image(members[name], name), **others}
