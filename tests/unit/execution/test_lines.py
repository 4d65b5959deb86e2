from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gradients.execution.lines import CappedLog, LineSplitter


@given(st.lists(st.binary(max_size=12)), st.integers(min_value=1, max_value=8))
def test_cutting_the_stream_elsewhere_changes_no_line(chunks: list[bytes], limit: int) -> None:
    whole = LineSplitter(limit).feed(b"".join(chunks) + b"\n")
    splitter = LineSplitter(limit)
    assert [line for chunk in [*chunks, b"\n"] for line in splitter.feed(chunk)] == whole
    assert all(0 < len(line) <= limit for line in whole)


def test_a_line_over_the_limit_is_left_out_and_the_next_one_is_not() -> None:
    splitter = LineSplitter(4)
    assert splitter.feed(b"ok\ntoo l") == [b"ok"]
    assert splitter.feed(b"ong") == []
    assert splitter.feed(b"er\nfine\n") == [b"fine"]


def test_a_log_within_its_size_is_kept_as_it_is(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", max_bytes=10, tail_bytes=4)
    for chunk in (b"01234", b"56789"):
        log.write(chunk)
    log.close()
    assert (tmp_path / "log").read_bytes() == b"0123456789"
    assert log.tail() == b"6789"


def test_a_log_over_its_size_keeps_beginning_and_end(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", max_bytes=5, tail_bytes=3)
    for chunk in (b"01234567", b"89", b"abc", b"d"):
        log.write(chunk)
    log.close()
    # 14 bytes came: 5 at the start are kept, 9 are not, and the last 3 of those are
    assert (tmp_path / "log").read_bytes() == b"01234\n... 6 bytes left out ...\nbcd"


def test_no_byte_is_written_twice_when_little_is_left_out(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "log", max_bytes=5, tail_bytes=4)
    log.write(b"012345")
    log.close()
    assert (tmp_path / "log").read_bytes() == b"01234\n... 0 bytes left out ...\n5"
