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
TURN_SECONDS = 0.05


async def _fetch(come: asyncio.Event) -> tuple[Path, ...]:
    await come.wait()
    return COME


def _fetched(folder: Path, *, places: int, waits: Callable[[], bool], turns: int | None) -> tuple[Path, ...]:
    """One fetch whose server takes so many turns, or for ever."""

    async def scenario() -> tuple[Path, ...]:
        crowd, come = FetchPlaces(places, turn_seconds=TURN_SECONDS, look_seconds=TURN_SECONDS / 5), asyncio.Event()
        if turns is not None:
            asyncio.get_running_loop().call_later(turns * TURN_SECONDS, come.set)
        with crowd.place() as place:
            return tuple(await crowd.fetched(place, _fetch(come), folder, waits=waits))

    return asyncio.run(scenario())


def test_who_is_slow_gives_the_place_up_when_somebody_waits(tmp_path: Path) -> None:
    with pytest.raises(OutsideError, match="others wait for the place"):
        _fetched(tmp_path, places=1, waits=lambda: True, turns=None)


def test_while_nobody_waits_or_a_place_is_free_none_is_given_up(tmp_path: Path) -> None:
    assert _fetched(tmp_path, places=1, waits=lambda: False, turns=10) == COME
    assert _fetched(tmp_path, places=2, waits=lambda: True, turns=10) == COME


def test_every_mebibyte_that_has_come_is_worth_a_second(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "rows.jsonl").touch()
    os.truncate(tmp_path / "0" / "rows.jsonl", 3600 * 1024**2)  # an hour's worth, of which the disk holds nothing
    assert _fetched(tmp_path, places=1, waits=lambda: True, turns=10) == COME


def test_one_waiting_task_takes_one_place(tmp_path: Path) -> None:
    """All are slow alike and look at the same moments; the other data come ten turns after one has given up."""

    async def scenario() -> list[object]:
        crowd, come = FetchPlaces(4, turn_seconds=TURN_SECONDS, look_seconds=TURN_SECONDS / 5), asyncio.Event()

        async def one() -> object:
            with crowd.place() as place:
                try:
                    return await crowd.fetched(place, _fetch(come), tmp_path, waits=lambda: True)
                except OutsideError:
                    asyncio.get_running_loop().call_later(10 * TURN_SECONDS, come.set)
                    raise

        return await asyncio.gather(*(one() for _ in range(4)), return_exceptions=True)

    outcomes = asyncio.run(scenario())
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["OutsideError", "tuple", "tuple", "tuple"]
