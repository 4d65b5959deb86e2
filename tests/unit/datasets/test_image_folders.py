"""Folders and archives of captioned images, and what strangers may put into them."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from gradients.datasets.image_folders import MOST_ARCHIVE_BYTES, MOST_FILES, MOST_MEMBERS
from gradients.datasets.reading import read_rows
from gradients.datasets.rows import Row
from gradients.datasets.sources import MOST_IMAGE_BYTES, DatasetLimits, FileSource
from gradients.errors import DatasetInvalid

ROOMY = DatasetLimits(row_characters=64 * 1024**2)


def rows(path: Path) -> Sequence[Row]:
    return read_rows(FileSource(path=path), limits=ROOMY)


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def unpacked(folder: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def shown(content: bytes) -> str:
    return base64.b64encode(content).decode()


MEMBERS = {"b.png": b"B", "b.txt": b"a boat", "a.JPG": b"A", "notes.md": b"-", "__MACOSX/b.png": b"-", ".x.png": b"-"}
EXPECTED = [
    {"image": shown(b"A"), "caption": "", "file_name": "a.JPG"},
    {"image": shown(b"B"), "caption": "a boat", "file_name": "b.png"},
]
WORDS = {"a.txt": b"words"}


def test_images_in_a_folder_or_an_archive_have_the_captions_beside_them(tmp_path: Path) -> None:
    assert rows(unpacked(tmp_path / "folder", MEMBERS)) == EXPECTED
    assert rows(packed(tmp_path / "images.zip", MEMBERS)) == EXPECTED


def test_members_whose_names_begin_with_the_archives_own_folder_are_shown(tmp_path: Path) -> None:
    assert rows(packed(tmp_path / "images.zip", {"./a.png": b"A", "./a.txt": b"words"})) == [
        {"image": shown(b"A"), "caption": "words", "file_name": "a.png"}
    ]


def test_a_metadata_file_names_images_relative_to_itself(tmp_path: Path) -> None:
    line = json.dumps({"file_name": "one/a.png", "caption": "first", "artist": "Ada"}).encode()
    members = {"set/metadata.jsonl": line, "set/one/a.png": b"A"}
    expected = [{"image": shown(b"A"), "caption": "first", "artist": "Ada", "file_name": "set/one/a.png"}]
    assert rows(unpacked(tmp_path / "folder", members)) == expected
    assert rows(packed(tmp_path / "images.zip", members)) == expected


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "", "missing.png"])
def test_a_metadata_file_names_nothing_outside(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"S")
    line = json.dumps({"file_name": name}).encode()
    folder = unpacked(tmp_path / "folder", {"metadata.jsonl": line, "a.png": b"A"})
    with pytest.raises(DatasetInvalid, match="does not name a file") as refused:
        rows(folder)
    assert list(refused.value.rows) == [1]


@pytest.mark.parametrize(
    ("third", "said"),
    [
        ("{", "Row 3 of metadata.jsonl (line 5) is not valid JSON"),
        ("[]", "Row 3 of metadata.jsonl (line 5) is not an object"),
        ('{"file_name": "b.png"}', "Row 3 of metadata.jsonl does not name a file"),
    ],
)
def test_lines_of_a_metadata_file_are_counted_as_rows_are(third: str, said: str, tmp_path: Path) -> None:
    good = json.dumps({"file_name": "a.png"})
    listing = f"{good}\n\n\n{good}\n{third}\n".encode()
    with pytest.raises(DatasetInvalid) as refused:
        rows(unpacked(tmp_path / "folder", {"metadata.jsonl": listing, "a.png": b"A"}))
    assert refused.value.rows == (3,)
    assert refused.value.message.startswith(said)


def test_a_link_in_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"S")
    folder = unpacked(tmp_path / "folder", {"a.png": b"A", **WORDS})
    (folder / "b.png").symlink_to(tmp_path / "secret.png")
    assert [row["image"] for row in rows(folder)] == [shown(b"A")]


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "x/../../a.png", "..\\a.png", "C:\\a.png"])
def test_an_archive_with_a_member_outside_of_itself_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="outside of itself"):
        rows(packed(tmp_path / "images.zip", {name: b"A"}))


def test_an_archive_with_a_link_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("a.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DatasetInvalid, match="a link"):
        rows(tmp_path / "images.zip")


def test_a_member_is_unpacked_no_further_than_images_are_large(tmp_path: Path) -> None:
    bomb = packed(tmp_path / "images.zip", {"a.png": b"\0" * (MOST_IMAGE_BYTES + 1), **WORDS})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(DatasetInvalid, match="more than 16,777,216 bytes"):
        rows(bomb)


def test_many_members_unpack_to_no_more_than_a_task_needs(tmp_path: Path) -> None:
    bomb = packed(
        tmp_path / "images.zip", {"0.txt": b"words", **{f"{n}.png": b"\0" * MOST_IMAGE_BYTES for n in range(7)}}
    )  # six would do
    with pytest.raises(DatasetInvalid, match="unpacks to more than"):
        rows(bomb)


def test_an_archive_holds_no_more_files_than_a_task_needs(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="more than 1000 files"):
        rows(packed(tmp_path / "images.zip", {f"{n}.png": b"A" for n in range(MOST_FILES + 1)}))


def test_an_archive_is_not_opened_when_it_is_too_large_or_lists_too_much(tmp_path: Path) -> None:
    """Its table of contents would be read as a whole, into objects of half a kilobyte for each member."""
    with pytest.raises(DatasetInvalid, match="more than 10,000 members"):
        rows(packed(tmp_path / "many.zip", {f"{n}.txt": b"" for n in range(MOST_MEMBERS + 1)}))
    with (tmp_path / "large.zip").open("wb") as file:
        file.truncate(MOST_ARCHIVE_BYTES + 1)
    with pytest.raises(DatasetInvalid, match="has more than 117,440,512 bytes"):
        rows(tmp_path / "large.zip")


def test_a_members_name_in_no_encoding_is_the_customers(tmp_path: Path) -> None:
    archive = packed(tmp_path / "images.zip", {"ü.png": b"A"})
    archive.write_bytes(archive.read_bytes().replace("ü".encode(), b"\xc3("))
    with pytest.raises(DatasetInvalid, match="not a valid zip archive"):
        rows(archive)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_whatever_is_changed_in_an_archive_the_failure_is_the_customers(compression: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "good.zip", "w", compression) as archive:
        archive.writestr("ü.png", b"hello " * 20)
    good, generator = (tmp_path / "good.zip").read_bytes(), random.Random(7)
    for _ in range(1000):
        content = bytearray(good)
        for _ in range(generator.randint(1, 3)):
            content[generator.randrange(len(content))] = generator.choice([0, 255, generator.randrange(256)])
        (tmp_path / "images.zip").write_bytes(content)
        with contextlib.suppress(DatasetInvalid):
            rows(tmp_path / "images.zip")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"hello"])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(content)
    with pytest.raises(DatasetInvalid, match="not a valid zip archive"):
        rows(tmp_path / "images.zip")


def test_a_member_that_was_damaged_is_refused(tmp_path: Path) -> None:
    content = bytearray(packed(tmp_path / "images.zip", {"a.png": bytes(range(256)) * 4, **WORDS}).read_bytes())
    content[60] ^= 255
    (tmp_path / "images.zip").write_bytes(content)
    with pytest.raises(DatasetInvalid, match="broken"):
        rows(tmp_path / "images.zip")


def test_a_caption_in_another_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="not UTF-8"):
        rows(packed(tmp_path / "images.zip", {"a.png": b"A", "a.txt": b"caf\xe9"}))
