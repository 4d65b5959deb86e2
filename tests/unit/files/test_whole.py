"""Files and folders are there as a whole or not at all, and a full disk is told apart from every other fault."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradients.errors import DiskFull, OperatorError
from gradients.files.disk import NO_ROOM, write_failure
from gradients.files.whole import STALE_SECONDS, whole_file, whole_folder, write_bytes, write_file, write_text


@pytest.fixture
def room_for_4_kib() -> Iterator[None]:
    """Every file that this process writes may have 4 KiB; what the kernel then says is what a full disk says."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_replaces_the_older_one_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "old")
    write_text(tmp_path / "file", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "new"}


def test_a_file_whose_writing_fails_leaves_the_older_one(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise InterruptedError

    write_text(tmp_path / "file", "old")
    with pytest.raises(InterruptedError):
        write_file(tmp_path / "file", fail)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_a_folder_appears_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill(name: str) -> None:
        with whole_folder(tmp_path / "folder") as folder:
            (folder / name).write_text("1")
            if name == "broken":
                raise InterruptedError

    with pytest.raises(InterruptedError):
        fill("broken")
    assert list(tmp_path.iterdir()) == []
    fill("first")
    fill("second")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["folder", "folder/second"]


def test_a_stream_that_breaks_off_leaves_the_older_file(tmp_path: Path) -> None:
    def receive() -> None:
        with whole_file(tmp_path / "file") as stream:
            stream.write(b"half")
            raise ConnectionResetError  # an OSError that is not about the disk passes as it is

    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(ConnectionResetError):
        receive()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


@pytest.mark.usefixtures("room_for_4_kib")
def test_a_file_that_finds_no_room_is_a_full_disk_and_leaves_the_older_one(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(DiskFull, match="no room for file"):
        write_bytes(tmp_path / "file", bytes(10_000))
    with pytest.raises(DiskFull, match="no room for file"), whole_file(tmp_path / "file") as stream:
        stream.write(bytes(10_000))
    with pytest.raises(DiskFull, match="no room for file"):
        write_file(tmp_path / "file", lambda path: path.write_bytes(bytes(10_000)))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


@pytest.mark.parametrize("number", sorted(NO_ROOM))
def test_every_way_of_having_no_room_is_a_full_disk(number: int) -> None:
    assert isinstance(write_failure(OSError(number, os.strerror(number)), Path("/x/file")), DiskFull)
    assert not isinstance(write_failure(OSError(errno.EACCES, "no"), Path("/x/file")), DiskFull)


def test_a_folder_that_does_not_exist_is_the_operators_and_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot be written: No such file") as caught:
        write_text(tmp_path / "nowhere" / "file", "text")
    assert caught.value.code == "unwritable"


def test_permissions_are_set_before_the_first_byte(tmp_path: Path) -> None:
    with whole_file(tmp_path / "key", mode=0o600) as stream:
        stream.write(b"secret")
        assert [part.stat().st_mode & 0o777 for part in tmp_path.iterdir()] == [0o600]
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_writer_left_is_removed_by_a_later_one_and_a_living_ones_part_is_not(tmp_path: Path) -> None:
    left, living = tmp_path / ".file.0a0a.part", tmp_path / ".file.0b0b.part"
    (tmp_path / ".file.0c0c.part").mkdir()
    for path in (left, living):
        path.write_text("half")
    long_ago = time.time() - STALE_SECONDS - 1
    os.utime(left, (long_ago, long_ago))
    os.utime(tmp_path / ".file.0c0c.part", (long_ago, long_ago))
    write_text(tmp_path / "file", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.0b0b.part", "file"]
