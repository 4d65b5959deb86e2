"""Who gives a place up for others while its data are fetched: whoever has had its time, when all places are taken and somebody waits.

A fetch has a minute, and another second for each MiB that has come. So a server that sends 1 MiB a second keeps its place to the end, and
slow ones hold nobody up for much longer than a minute, however many there are. While there is a place for everybody none is given up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gradients.errors import OutsideError
from gradients.tasks.preparation import Fetched

TURN_SECONDS = 60.0
FAIR_BYTES_PER_SECOND = 1024**2
LOOK_SECONDS = 5.0


class FetchPlaces:
    """The places of one process in which tasks are prepared."""

    def __init__(
        self, count: int = 16, *, turn_seconds: float = TURN_SECONDS, look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._count = count
        self._turn_seconds = turn_seconds
        self._look_seconds = look_seconds
        self._held = set[object]()

    @contextmanager
    def place(self) -> Iterator[object]:
        """A place, held until its task is prepared or has given it up."""
        place = object()
        self._held.add(place)
        try:
            yield place
        finally:
            self._held.discard(place)

    async def fetched(
        self, place: object, fetch: Coroutine[None, None, Fetched], folder: Path, *, waits: Callable[[], object]
    ) -> Fetched:
        """What the fetch gives. Raises OutsideError when the place is given up.

        Args:
            folder: where its bytes come.
            waits: whether another task waits for a place; blocking.
        """
        fetching = asyncio.ensure_future(fetch)
        giving_up = asyncio.create_task(self._give_up(place, folder, waits))
        try:
            await asyncio.wait({fetching, giving_up}, return_when=asyncio.FIRST_COMPLETED)
            if not fetching.done():
                giving_up.result()
                raise OutsideError(
                    "Fetching the data takes long, and others wait for the place",
                    fix="Upload the files, or name a server that sends 1 MiB a second",
                )
            return fetching.result()
        finally:
            for task in (fetching, giving_up):
                task.cancel()
            await asyncio.gather(fetching, giving_up, return_exceptions=True)

    async def _give_up(self, place: object, folder: Path, waits: Callable[[], object]) -> None:
        """Returns when the place is no longer this fetch's, and counts as free from then on: one is given up for each who waits."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(self._look_seconds)
            seconds = self._turn_seconds + await asyncio.to_thread(_bytes_in, folder) / FAIR_BYTES_PER_SECOND
            if time.monotonic() - began < seconds or not await asyncio.to_thread(waits):
                continue
            if len(self._held) >= self._count:  # asked last: nobody else decides between this and the next line
                self._held.discard(place)
                return


def _bytes_in(folder: Path) -> int:
    size = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # whoever fetches may move it at this moment
            size += file.stat().st_size if file.is_file() else 0
    return size
