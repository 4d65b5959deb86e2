"""What ends a download before its source does: slowness, a disk that is nearly full, a deadline, and that nobody waits any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gradients.datasets.access import Access
from gradients.datasets.downloads import LEAST_BYTES_PER_SECOND, Deadline, save
from gradients.datasets.sources import DatasetLimits
from gradients.errors import DatasetInvalid, DiskFull, OutsideError
from gradients.tasks.instruct.spec import INSTRUCT
from gradients.tasks.preparation import fetch_sources
from gradients.tasks.registry import validate_request
from gradients.testing.clock import HandClock
from gradients.testing.loopback_site import Page, loopback_site, pages

LOCAL = Access(private_addresses=True)
LINE = b'{"instruction": "Why?", "output": "Because"}\n'


def _each_second(chunk: bytes, clock: HandClock, *, seconds: int) -> Iterator[bytes]:
    for _ in range(seconds):
        clock.time += 1
        yield chunk


def test_a_source_that_drips_is_given_up_after_half_a_minute(tmp_path: Path) -> None:
    clock, begun = HandClock(), HandClock().time
    slow = _each_second(bytes(LEAST_BYTES_PER_SECOND - 1), clock, seconds=1000)
    with pytest.raises(OutsideError, match=r"rows.jsonl comes with less than 16,384 bytes a second"):
        save(slow, tmp_path / "rows.jsonl", max_bytes=10**9, clock=clock.now)
    assert clock.time - begun == 31


def test_one_that_is_just_fast_enough_is_taken_whole(tmp_path: Path) -> None:
    clock = HandClock()
    save(
        _each_second(bytes(LEAST_BYTES_PER_SECOND), clock, seconds=60),
        tmp_path / "rows",
        max_bytes=10**9,
        clock=clock.now,
    )
    assert (tmp_path / "rows").stat().st_size == 60 * LEAST_BYTES_PER_SECOND


def test_the_disk_is_asked_before_it_is_full(tmp_path: Path) -> None:
    with pytest.raises(DiskFull):
        save([b"x"], tmp_path / "rows", max_bytes=10, look_bytes=2**60)
    assert (tmp_path / "rows").stat().st_size == 0


def test_data_sets_that_are_merged_share_one_limit(tmp_path: Path) -> None:
    """Two of 10 lines each; the limit leaves the second 9."""
    page = Page([LINE * 10])
    with loopback_site(pages({"/one.jsonl": page, "/two.jsonl": page})) as site:
        merged = [f"{site.url}/one.jsonl", f"{site.url}/two.jsonl"]
        request = validate_request({"type": "instruct", "base": "nano-lm", "hours": 1, "dataset": merged})
        with pytest.raises(DatasetInvalid, match=f"two.jsonl has more than the {9 * len(LINE)} bytes"):
            fetch_sources(INSTRUCT, request, tmp_path / "a", limits=DatasetLimits(bytes=19 * len(LINE)), access=LOCAL)
        exactly = DatasetLimits(bytes=20 * len(LINE))
        assert len(fetch_sources(INSTRUCT, request, tmp_path / "b", limits=exactly, access=LOCAL)) == 2


def _dripping() -> Iterator[bytes]:
    while True:
        time.sleep(0.02)
        yield b"x"


def test_they_share_one_deadline_too(tmp_path: Path) -> None:
    with loopback_site(lambda _: Page([LINE], headers={"Content-Length": str(len(LINE))})) as site:
        merged = [f"{site.url}/one.jsonl", f"{site.url}/two.jsonl"]
        request = validate_request({"type": "instruct", "base": "nano-lm", "hours": 1, "dataset": merged})
        over = Deadline()
        over.end()
        with pytest.raises(OutsideError, match="took too long as a whole"):
            fetch_sources(INSTRUCT, request, tmp_path, access=LOCAL, deadline=over)
        assert site.requests == []


def test_a_fetch_that_nobody_waits_for_ends_although_its_source_goes_on(tmp_path: Path) -> None:
    deadline, failures = Deadline(), list[OutsideError]()

    def fetch(url: str) -> None:
        request = validate_request({"type": "instruct", "base": "nano-lm", "hours": 1, "dataset": url})
        try:
            fetch_sources(INSTRUCT, request, tmp_path, access=LOCAL, deadline=deadline)
        except OutsideError as error:
            failures.append(error)

    with loopback_site(lambda _: Page(_dripping())) as site:
        thread = threading.Thread(target=fetch, args=(f"{site.url}/rows.jsonl",), daemon=True)
        thread.start()
        while not site.requests and thread.is_alive():
            time.sleep(0.01)
        deadline.end()
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert len(failures) == 1
