"""Fetching by digest from sources that break off, lie, stall and send too much."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradients.errors import Blame, DiskFull, OutsideError, PeerUnreachable, SubmissionRejected
from gradients.repo.fetch import FetchBudget, fetch_repo
from gradients.repo.manifest import RepoFile
from gradients.repo.store import ContentStore
from gradients.testing.repo_sources import Source, manifest_of, sha256_of

CONTENT = random.Random(1).randbytes(25_500)
NAME = "model.safetensors"
FILES = {NAME: CONTENT}


def fetched(store: ContentStore, content: bytes = CONTENT) -> bytes:
    return store.path(sha256_of(content)).read_bytes()


def parts(store: ContentStore) -> list[int]:
    """Sizes of what lies there unfinished."""
    return [part.stat().st_size for part in store.root.glob("sha256/*/*.part")]


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(tmp_path / "store")


def test_a_repo_comes_whole_and_leaves_no_parts(store: ContentStore) -> None:
    files = {NAME: CONTENT, "config.json": b"{}", "README.md": b""}

    asyncio.run(fetch_repo(Source(files), manifest_of(files), store))

    assert [fetched(store, content) for content in files.values()] == list(files.values())
    assert parts(store) == []


def test_what_is_here_is_not_read_again(store: ContentStore) -> None:
    asyncio.run(fetch_repo(Source(FILES), manifest_of(FILES), store))
    again = Source(FILES)

    asyncio.run(fetch_repo(again, manifest_of(FILES), store))

    assert again.asked == []


def test_bytes_that_another_miner_has_sent_are_read_from_everybody_who_names_them(store: ContentStore) -> None:
    asyncio.run(fetch_repo(Source(FILES), manifest_of(FILES, hotkey="5first"), store))
    inode = store.path(sha256_of(CONTENT)).stat().st_ino
    second, empty = Source(FILES), Source({})

    asyncio.run(fetch_repo(second, manifest_of(FILES, hotkey="5second"), store))
    with pytest.raises(OutsideError):
        asyncio.run(fetch_repo(empty, manifest_of(FILES, hotkey="5empty"), store))

    assert second.asked == [(NAME, 0)]
    assert store.path(sha256_of(CONTENT)).stat().st_ino == inode  # stored once
    assert sum(parts(store)) == 0


def test_two_names_for_the_same_bytes_are_read_once(store: ContentStore) -> None:
    files = {"a.safetensors": CONTENT, "b.safetensors": CONTENT}
    source = Source(files)

    asyncio.run(fetch_repo(source, manifest_of(files), store))

    assert source.asked == [("a.safetensors", 0)]


def test_a_fetch_goes_on_where_it_broke_off(store: ContentStore) -> None:
    broken, whole = Source(FILES, cut_after=12_345), Source(FILES)

    with pytest.raises(PeerUnreachable):
        asyncio.run(fetch_repo(broken, manifest_of(FILES), store))
    asyncio.run(fetch_repo(whole, manifest_of(FILES), store))

    assert whole.asked == [(NAME, 12_345)]
    assert fetched(store) == CONTENT


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 9_000), max_size=8))
def test_a_fetch_ends_whole_wherever_it_is_cut_and_reads_no_byte_twice(
    cuts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = ContentStore(tmp_path_factory.mktemp("store"))
    sources = [*(Source(FILES, cut_after=cut) for cut in cuts), Source(FILES)]
    for source in sources:
        try:
            asyncio.run(fetch_repo(source, manifest_of(FILES), store))
        except PeerUnreachable as error:
            assert error.blame is Blame.OUTSIDE  # noqa: PT017 (whether it is raised depends on the cut)

    assert fetched(store) == CONTENT
    assert sum(source.given for source in sources) == len(CONTENT)


# ---- whose fault


def test_other_bytes_than_announced_are_the_miners_fault_and_are_not_kept(store: ContentStore) -> None:
    source = Source(FILES, spoil=lambda begin, chunk: bytes(len(chunk)) if begin == 5000 else chunk)

    with pytest.raises(SubmissionRejected) as caught:
        asyncio.run(fetch_repo(source, manifest_of(FILES), store))

    assert (caught.value.code, caught.value.blame) == ("content_mismatch", Blame.MINER)
    assert not store.has(sha256_of(CONTENT))
    assert parts(store) == []


def test_more_bytes_than_announced_are_the_miners_fault_and_are_not_taken(store: ContentStore) -> None:
    source = Source({NAME: CONTENT + bytes(10**6)})

    with pytest.raises(SubmissionRejected) as caught:
        asyncio.run(fetch_repo(source, manifest_of(FILES), store))

    assert (caught.value.code, caught.value.blame) == ("content_mismatch", Blame.MINER)
    assert source.given <= len(CONTENT) + 1000  # one chunk more
    assert sum(parts(store)) <= len(CONTENT)


def test_fewer_bytes_than_announced_may_be_the_networks_fault(store: ContentStore) -> None:
    with pytest.raises(PeerUnreachable) as caught:
        asyncio.run(fetch_repo(Source({NAME: CONTENT[:-1]}), manifest_of(FILES), store))

    assert caught.value.blame is Blame.OUTSIDE


@pytest.mark.parametrize("size_bytes", [0, 1, len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_size_that_is_not_the_contents_never_passes(size_bytes: int, store: ContentStore) -> None:
    lie = {NAME: RepoFile(sha256=sha256_of(CONTENT), size_bytes=size_bytes)}

    with pytest.raises((SubmissionRejected, PeerUnreachable)):
        asyncio.run(fetch_repo(Source(FILES), manifest_of(FILES, announced=lie), store))

    assert not store.has(sha256_of(CONTENT))


@pytest.mark.parametrize("size_bytes", [0, 1, len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_size_is_compared_though_the_content_is_here_already(size_bytes: int, store: ContentStore) -> None:
    asyncio.run(fetch_repo(Source(FILES), manifest_of(FILES), store))
    lie = {NAME: RepoFile(sha256=sha256_of(CONTENT), size_bytes=size_bytes)}

    with pytest.raises(SubmissionRejected) as caught:
        asyncio.run(fetch_repo(Source(FILES), manifest_of(FILES, announced=lie), store))

    assert caught.value.code == "content_mismatch"
    assert fetched(store) == CONTENT


def test_a_part_that_was_spoilt_on_our_disk_does_not_convict_the_miner(store: ContentStore) -> None:
    with pytest.raises(PeerUnreachable):
        asyncio.run(fetch_repo(Source(FILES, cut_after=9_000), manifest_of(FILES), store))
    (part,) = store.root.glob("sha256/*/*.part")
    part.write_bytes(bytes(9_000))
    source = Source(FILES)

    asyncio.run(fetch_repo(source, manifest_of(FILES), store))

    assert source.asked == [(NAME, 9_000), (NAME, 0)]
    assert fetched(store) == CONTENT


def test_a_part_that_is_too_long_is_begun_again(store: ContentStore) -> None:
    with pytest.raises(PeerUnreachable):
        asyncio.run(fetch_repo(Source(FILES, cut_after=9_000), manifest_of(FILES), store))
    (part,) = store.root.glob("sha256/*/*.part")
    part.write_bytes(bytes(len(CONTENT) + 1))
    source = Source(FILES)

    asyncio.run(fetch_repo(source, manifest_of(FILES), store))

    assert source.asked == [(NAME, 0)]


# ---- miners beside one another


def test_what_one_miner_sends_does_not_spoil_what_another_sends(store: ContentStore) -> None:
    garbage = Source(FILES, spoil=lambda _, chunk: bytes(len(chunk)), cut_after=9_000)
    with pytest.raises(PeerUnreachable):
        asyncio.run(fetch_repo(garbage, manifest_of(FILES, hotkey="5hostile"), store))

    asyncio.run(fetch_repo(Source(FILES), manifest_of(FILES, hotkey="5honest"), store))

    assert fetched(store) == CONTENT


def test_miners_with_the_same_file_are_fetched_at_the_same_time(store: ContentStore) -> None:
    async def everybody() -> None:
        sources = [Source(FILES, pause_seconds=0.001) for _ in range(8)]
        await asyncio.gather(
            *(fetch_repo(source, manifest_of(FILES, hotkey=f"5{n}"), store) for n, source in enumerate(sources))
        )

    asyncio.run(everybody())

    assert fetched(store) == CONTENT
    assert parts(store) == []


def test_a_repo_is_fetched_by_one_at_a_time_and_the_other_is_told_to_wait(store: ContentStore) -> None:
    async def both() -> None:
        first = asyncio.create_task(fetch_repo(Source(FILES, pause_seconds=3600), manifest_of(FILES), store))
        while not parts(store):  # noqa: ASYNC110 (a folder has no event)
            await asyncio.sleep(0.01)
        with pytest.raises(OutsideError) as caught:
            await fetch_repo(Source(FILES), manifest_of(FILES), store)
        assert caught.value.code == "fetch_busy"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await fetch_repo(Source(FILES), manifest_of(FILES), store)

    asyncio.run(both())

    assert fetched(store) == CONTENT


# ---- limits


@pytest.mark.parametrize("pause_seconds", [30.0, 0.05], ids=["stalled", "dripping"])
def test_a_fetch_takes_no_longer_than_its_budget_and_can_go_on(pause_seconds: float, store: ContentStore) -> None:
    budget = FetchBudget(base_seconds=0.3, bytes_per_second=1e9)
    started = time.monotonic()

    with pytest.raises(PeerUnreachable) as caught:
        asyncio.run(fetch_repo(Source(FILES, pause_seconds=pause_seconds), manifest_of(FILES), store, budget=budget))
    took = time.monotonic() - started
    asyncio.run(fetch_repo(Source(FILES), manifest_of(FILES), store))

    assert caught.value.blame is Blame.OUTSIDE
    assert took < 60.0
    assert fetched(store) == CONTENT


def test_a_larger_repo_has_more_time() -> None:
    assert FetchBudget(base_seconds=60, bytes_per_second=5e6).seconds(10**9) == 60 + 200


def test_a_repo_that_finds_no_room_is_not_begun_and_is_ours_to_solve(store: ContentStore) -> None:
    huge = {NAME: RepoFile(sha256="ab" * 32, size_bytes=2**49)}
    source = Source(FILES)

    with pytest.raises(DiskFull) as caught:
        asyncio.run(fetch_repo(source, manifest_of(FILES, announced=huge), store))

    assert caught.value.blame is Blame.OPERATOR
    assert source.asked == []
