"""Folders and zip archives of captioned images as rows: {"image": base64, "caption": text, "file_name"}, or the columns of their metadata.

Captions stand in text files beside the images, or in `metadata.jsonl` or `metadata.csv` of any of the folders. No image is passed over in
silence: what has no caption comes out as a row without one, and an image in a format that cannot be read is named.

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
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from gradients.datasets.json_rows import rows_of_lines
from gradients.datasets.rows import SHOWN_ROWS, Row
from gradients.datasets.sources import MOST_IMAGE_BYTES
from gradients.datasets.tables import rows_of_table
from gradients.errors import DatasetInvalid

IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp"})
UNREAD_ENDINGS = frozenset({".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".psd", ".svg", ".ico", ".tga"})
TABLE_ENDINGS = frozenset({".jsonl", ".json", ".csv", ".tsv", ".parquet"})
CAPTION_ENDINGS = (".txt", ".caption")
METADATA = ("metadata.jsonl", "metadata.csv")  # with "file_name", as `datasets` reads image folders
FILE_NAME = "file_name"
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
    return any(file.suffix.lower() in IMAGE_ENDINGS | UNREAD_ENDINGS for file in folder.rglob("*"))


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
        members = dict[str, Read]()
        for info in _members(archive, path):
            name = str(PurePosixPath(info.filename))
            if name in members:
                raise DatasetInvalid(f"{path.name} has two members called {name!r}", fix="Pack it anew")
            members[name] = reader(archive, info)
        yield from _rows(members, where=path.name)


def _members(archive: zipfile.ZipFile, path: Path) -> Iterator[zipfile.ZipInfo]:
    """The files of an archive. Raises DatasetInvalid for members that an archive of images has no use for."""
    for info in archive.infolist():
        info.filename = info.filename.replace("\\", "/")  # as archivers of Windows write it
        pure = PurePosixPath(info.filename)
        if pure.is_absolute() or ".." in pure.parts or ":" in pure.parts[0]:
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
    """A row for each line of the metadata files and for each image that none of them names."""
    shown = {
        name: read
        for name, read in members.items()
        if not any(part.startswith(_HIDDEN) for part in PurePosixPath(name).parts)
    }
    if len(shown) > MOST_FILES:
        raise DatasetInvalid(f"{where} holds more than {MOST_FILES} files", fix="Give the images of one task")
    _check_kinds(shown, where)
    budget, listed = _Budget(where), set[str]()
    for listing in sorted(name for name in shown if PurePosixPath(name).name in METADATA):
        for row in _listed(shown, listing, budget):
            listed.add(str(row[FILE_NAME]))
            yield row
    images = [name for name in sorted(shown) if PurePosixPath(name).suffix.lower() in IMAGE_ENDINGS]
    captions = {name: _caption(shown, name) for name in images if name not in listed}
    if captions and not listed and not any(captions.values()):
        raise DatasetInvalid(
            f"None of the {len(captions)} images of {where} has a caption",
            fix=f"{images[0]} needs {PurePosixPath(images[0]).with_suffix('.txt')} or .caption beside it, or a line in {METADATA[0]}",
        )
    for name, caption in captions.items():
        yield {"image": budget.read_image(shown[name], name), "caption": caption, FILE_NAME: name}


def _check_kinds(names: Collection[str], where: str) -> None:
    """Raises DatasetInvalid for images in formats that are not read, and for what is not a set of images at all."""
    endings = {name: PurePosixPath(name).suffix.lower() for name in names}
    if unread := sorted(name for name, ending in endings.items() if ending in UNREAD_ENDINGS):
        more = f" and {len(unread) - SHOWN_ROWS} more" if len(unread) > SHOWN_ROWS else ""
        raise DatasetInvalid(
            f"{where} holds images that cannot be read: {', '.join(unread[:SHOWN_ROWS])}{more}",
            fix=f"Save them as one of {', '.join(sorted(IMAGE_ENDINGS))}, or leave them out",
        )
    tables = sorted(name for name, ending in endings.items() if ending in TABLE_ENDINGS)
    if tables and not IMAGE_ENDINGS & set(endings.values()):
        raise DatasetInvalid(f"{where} is read for images, and holds none", fix=f"Unpack {tables[0]} and give that")


def _caption(members: Mapping[str, Read], image: str) -> str:
    """The text in the file beside an image; nothing without one."""
    for ending in CAPTION_ENDINGS:
        if read := members.get(str(PurePosixPath(image).with_suffix(ending))):
            try:
                return read(MOST_CAPTION_BYTES).decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise DatasetInvalid(f"The caption of {image} is not UTF-8", fix="Save it as UTF-8") from error
    return ""


def _listed(members: Mapping[str, Read], listing: str, budget: _Budget) -> Iterator[Row]:
    """The lines of a metadata file, each with its image beside the other columns."""
    content = budget.read(members[listing], listing)
    is_table = PurePosixPath(listing).suffix == ".csv"
    lines = rows_of_table(content, listing) if is_table else rows_of_lines(content.splitlines(), listing)
    for number, row in enumerate(lines, start=1):
        if number > MOST_FILES:
            raise DatasetInvalid(f"{listing} names more than {MOST_FILES} images", fix="Give the images of one task")
        name = str(PurePosixPath(listing).parent / str(row.get(FILE_NAME, "")))
        if name not in members:
            raise DatasetInvalid(
                f"Row {number} of {listing} does not name a file that is there",
                rows=[number],
                fix="file_name is relative to it",
            )
        others = {column: value for column, value in row.items() if column != FILE_NAME}
        yield {"image": budget.read_image(members[name], name), **others, FILE_NAME: name}
