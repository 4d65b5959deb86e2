"""The store of bytes by digest: whole or not there at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradients.errors import DiskFull, OperatorError, SubmissionRejected
from gradients.repo.store import STALE_PART_SECONDS, ContentStore
from gradients.testing.repo_sources import sha256_of

CONTENT = b"weights " * 1000
DIGEST = sha256_of(CONTENT)


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "store")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(CONTENT)
    return path


def everything(store: ContentStore) -> list[str]:
    return sorted(path.name for path in store.root.rglob("*") if path.is_file())


def test_a_file_is_found_by_what_it_holds_and_cannot_be_written(store: ContentStore, file: Path) -> None:
    assert store.add_file(file) == DIGEST

    assert store.has(DIGEST)
    assert store.check(DIGEST).read_bytes() == CONTENT
    assert stat.S_IMODE(store.path(DIGEST).stat().st_mode) == 0o400
    assert everything(store) == [DIGEST]


def test_the_same_bytes_are_kept_once(store: ContentStore, file: Path) -> None:
    store.add_file(file)
    inode = store.path(DIGEST).stat().st_ino

    assert store.add_file(file) == DIGEST
    assert store.path(DIGEST).stat().st_ino == inode


def test_a_part_becomes_content_only_when_its_digest_is_right(store: ContentStore) -> None:
    part = store.part(DIGEST, "a")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:-1])

    with pytest.raises(SubmissionRejected):
        store.finish(part, DIGEST)

    assert everything(store) == []


def test_each_source_gathers_for_itself(store: ContentStore) -> None:
    assert store.part(DIGEST, "a") != store.part(DIGEST, "b")


def test_content_that_has_changed_is_found_dropped_and_ours(store: ContentStore, file: Path) -> None:
    path = store.path(store.add_file(file))
    path.chmod(0o644)
    path.write_bytes(b"W" + CONTENT[1:])

    with pytest.raises(OperatorError) as caught:
        store.check(DIGEST)

    assert caught.value.code == "blob_corrupted"
    assert not store.has(DIGEST)


def test_content_that_is_missing_is_ours(store: ContentStore) -> None:
    with pytest.raises(OperatorError) as caught:
        store.check(DIGEST)

    assert caught.value.code == "blob_missing"


def test_parts_that_nobody_goes_on_with_are_dropped_after_a_day(store: ContentStore, file: Path) -> None:
    store.add_file(file)
    stale, fresh = store.part(DIGEST, "stale"), store.part(DIGEST, "fresh")
    stale.touch()
    fresh.touch()
    long_ago = time.time() - STALE_PART_SECONDS - 1
    os.utime(stale, (long_ago, long_ago))

    assert store.drop_stale_parts() == 1

    assert everything(store) == [DIGEST, fresh.name]


def test_parts_are_dropped_when_room_is_asked_for(store: ContentStore) -> None:
    part = store.part(DIGEST, "stale")
    part.parent.mkdir(parents=True)
    part.touch()
    os.utime(part, (0, 0))

    store.reserve(1)

    assert everything(store) == []


def test_room_that_is_not_there_is_not_promised(store: ContentStore) -> None:
    with pytest.raises(DiskFull):
        store.reserve(2**60)


def test_a_folder_where_files_should_go_is_our_problem(store: ContentStore, file: Path) -> None:
    store.root.mkdir()
    (store.root / "sha256").write_text("in the way")

    with pytest.raises(OperatorError):
        store.add_file(file)


def run(script: str, *arguments: object) -> str:
    """What a process of its own prints."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout.strip()


SMALL_FILES_ONLY = """
import resource, signal, sys
from pathlib import Path
from gradients.errors import GradientsError
from gradients.repo.store import ContentStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as a full disk does, writing fails instead
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    ContentStore(Path(sys.argv[1])).add_file(Path(sys.argv[2]))
except GradientsError as error:
    print(error.blame, error.code)
"""


def test_a_disk_that_fills_up_leaves_nothing_half_written(store: ContentStore, file: Path) -> None:
    assert run(SMALL_FILES_ONLY, store.root, file) == "operator disk_full"

    assert everything(store) == []
    assert store.add_file(file) == DIGEST


FETCH_ONTO_A_FULL_DISK = """
import asyncio, resource, signal, sys
from pathlib import Path
from gradients.errors import GradientsError
from gradients.repo.fetch import fetch_repo
from gradients.repo.store import ContentStore
from gradients.testing.repo_sources import Source, manifest_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
files = {"model.safetensors": Path(sys.argv[2]).read_bytes()}
try:
    asyncio.run(fetch_repo(Source(files), manifest_of(files), ContentStore(Path(sys.argv[1]))))
except GradientsError as error:
    print(error.blame, error.code)
"""


def test_a_disk_that_fills_up_while_fetching_is_ours_to_solve(store: ContentStore, file: Path) -> None:
    assert run(FETCH_ONTO_A_FULL_DISK, store.root, file) == "operator disk_full"

    assert not store.has(DIGEST)
    (part,) = store.root.glob("sha256/*/*.part")
    assert part.read_bytes() == CONTENT[:4096]  # where the next try goes on


ADD_OFTEN = """
import sys
from pathlib import Path
from gradients.repo.store import ContentStore
store, file = ContentStore(Path(sys.argv[1])), Path(sys.argv[2])
for _ in range(30):
    digest = store.add_file(file)
    store.path(digest).unlink(missing_ok=True)
"""


def test_processes_that_write_the_same_bytes_do_not_disturb_one_another(store: ContentStore, file: Path) -> None:
    add = [sys.executable, "-c", ADD_OFTEN, str(store.root), str(file)]
    processes = [subprocess.Popen(add, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    problems = [process.communicate(timeout=600)[1] for process in processes]

    assert problems == ["", "", ""]
    assert [name for name in everything(store) if name != DIGEST] == []
    assert store.add_file(file) == DIGEST
    assert store.check(DIGEST).read_bytes() == CONTENT
