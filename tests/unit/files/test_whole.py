"""Files and folders are there as a whole or not at all, and a full disk is told apart from every other fault."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradients.errors import DiskFull, OperatorError
from gradients.files.disk import NO_ROOM, write_failure, writing
from gradients.files.whole import (
    STALE_SECONDS,
    make_folder,
    whole_file,
    whole_folder,
    write_bytes,
    write_file,
    write_text,
)


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
    def part(name: str, token: str) -> Path:
        return tmp_path / f".{name}.{token * 6}.part"

    stale = [part("file[1]", "0a"), part("file[1]", "0c"), part("file[1].txt", "0d")]
    stale[1].mkdir()
    for path in (stale[0], stale[2], part("file[1]", "0b")):
        path.write_text("half")
    long_ago = time.time() - STALE_SECONDS - 1
    for path in stale:
        os.utime(path, (long_ago, long_ago))
    write_text(tmp_path / "file[1]", "new")
    left = {part("file[1]", "0b").name, part("file[1].txt", "0d").name}  # a living writer's, and another file's
    assert {path.name for path in tmp_path.iterdir()} == {"file[1]", *left}


def test_a_folder_in_which_something_was_written_lately_is_a_living_ones(tmp_path: Path) -> None:
    part = tmp_path / f".folder.{'0a' * 6}.part"
    part.mkdir()
    (part / "growing").write_text("half")
    long_ago = time.time() - STALE_SECONDS - 1
    os.utime(part, (long_ago, long_ago))
    with whole_folder(tmp_path / "folder"):
        pass
    assert (part / "growing").is_file()


def test_bytes_that_never_reach_the_disk_do_not_hide_why_the_body_ended(tmp_path: Path) -> None:
    """Closing a stream writes what it still holds, which fails again."""

    def receive() -> None:
        with whole_file(tmp_path / "file") as stream:
            stream.write(b"held in memory")
            os.close(stream.fileno())  # what is left to write fails from now on, as on a broken disk
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        receive()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [TimeoutError(), ConnectionResetError(errno.ECONNRESET, "reset")])
def test_what_a_network_does_is_not_blamed_on_the_disk(error: OSError) -> None:
    with pytest.raises(type(error)), writing(Path("/x/file")):
        raise error


def test_folders_are_made_with_what_is_missing_above_them(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OperatorError, match="cannot be written: Not a directory"):
        make_folder(tmp_path / "file" / "c")


def test_a_folder_with_links_in_it_is_put_as_it_is(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "folder") as folder:
        (folder / "nowhere").symlink_to(tmp_path / "missing")
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("1")
    assert (tmp_path / "folder" / "nowhere").is_symlink()
    assert (tmp_path / "folder" / "inner" / "file").read_text() == "1"


def test_a_folder_does_not_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("old")
    with pytest.raises(OperatorError, match="cannot be written"), whole_folder(tmp_path / "name"):
        pass
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"name": "old"}


WRITE_OFTEN = """
import sys
from pathlib import Path
from gradients.files.whole import whole_folder, write_text
folder = Path(sys.argv[1])
for number in range(60):
    write_text(folder / "file", sys.argv[2] * 1000)
    with whole_folder(folder / "inner") as inner:
        (inner / sys.argv[2]).write_text(sys.argv[2])
        (inner / "both").write_text(sys.argv[2])
"""


def test_of_writers_of_one_path_the_last_wins_and_none_fails(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE_OFTEN, str(tmp_path), name], stderr=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    assert [writer.communicate(timeout=600)[1] for writer in writers] == ["", "", ""]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "inner"]
    assert (tmp_path / "file").read_text() in ("a" * 1000, "b" * 1000, "c" * 1000)
    winner = (tmp_path / "inner" / "both").read_text()
    assert sorted(path.name for path in (tmp_path / "inner").iterdir()) == sorted(["both", winner])
