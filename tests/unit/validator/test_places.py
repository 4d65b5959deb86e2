"""Who gives its place of preparation up, and who keeps it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gradients.errors import OutsideError
from validator.specs.places import FetchPlaces

COME = (Path("rows.jsonl"),)
LASTS_SECONDS = 0.5  # ten turns


async def _fetch(seconds: float) -> tuple[Path, ...]:
    await asyncio.sleep(seconds)
    return COME


def _fetched(
    folder: Path, *, places: int, waits: Callable[[], bool], lasts_seconds: float = LASTS_SECONDS
) -> tuple[Path, ...]:
    """One fetch whose server takes its time."""

    async def scenario() -> tuple[Path, ...]:
        crowd = FetchPlaces(places, turn_seconds=LASTS_SECONDS / 10, look_seconds=0.01)
        with crowd.place() as place:
            return tuple(await crowd.fetched(place, _fetch(lasts_seconds), folder, waits=waits))

    return asyncio.run(scenario())


def test_who_is_slow_gives_the_place_up_when_somebody_waits(tmp_path: Path) -> None:
    with pytest.raises(OutsideError, match="others wait for the place"):
        _fetched(tmp_path, places=1, waits=lambda: True, lasts_seconds=3600)


def test_while_nobody_waits_or_a_place_is_free_none_is_given_up(tmp_path: Path) -> None:
    assert _fetched(tmp_path, places=1, waits=lambda: False) == COME
    assert _fetched(tmp_path, places=2, waits=lambda: True) == COME


def test_every_mebibyte_that_has_come_is_worth_a_second(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "rows.jsonl").touch()
    os.truncate(tmp_path / "0" / "rows.jsonl", 3600 * 1024**2)  # an hour's worth, of which the disk holds nothing
    assert _fetched(tmp_path, places=1, waits=lambda: True) == COME


def test_one_waiting_task_takes_one_place(tmp_path: Path) -> None:
    """All are slow alike and look at the same moments."""

    async def scenario() -> list[object]:
        crowd, given_up = FetchPlaces(4, turn_seconds=0.05, look_seconds=0.01), asyncio.Event()

        async def fetch() -> tuple[Path, ...]:
            await given_up.wait()
            return await _fetch(LASTS_SECONDS)

        async def one() -> object:
            with crowd.place() as place:
                try:
                    return await crowd.fetched(place, fetch(), tmp_path, waits=lambda: True)
                except OutsideError:
                    given_up.set()
                    raise

        return await asyncio.gather(*(one() for _ in range(4)), return_exceptions=True)

    outcomes = asyncio.run(scenario())
    assert sorted(map(type, outcomes), key=str) == sorted([OutsideError, tuple, tuple, tuple], key=str)
