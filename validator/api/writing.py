"""One request at a time writes to an upload in pieces: which one, when it gives way to a later one, and how its bytes reach the disk.

Covers: requests of every process, by a lock on a file that ends with its holder. Within a process a request to which bytes come is left
alone, and whoever wants its place is refused; one that has been quiet for a while, since its line may be dead, is ended. Does not cover: a
dead line in another process, which keeps its place until that process ends the request.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from gradients.errors import CustomerError
from gradients.files.disk import check_room
from gradients.files.locks import open_alone

LOOK_SECONDS = 0.05  # between two looks whether the place is free

Given = TypeVarTuple("Given")
Made = TypeVar("Made")


class UploadBusy(CustomerError):
    """Another request writes to this upload."""

    default_code = "upload_busy"


@dataclass(slots=True)
class Writer:
    """A request that writes to an upload.

    Args:
        heard_at: when its last bytes came, by the loop's clock.
        stopped: set to end it.
    """

    heard_at: float
    stopped: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Turns:
    """Who writes to which upload of this process, by the upload's lock.

    Args:
        quiet_seconds: after which a request to which no byte came is ended for a later one. Requests that end each other sooner may keep
            each other from ever being done: two clients that send one file on slow lines do.
        wait_seconds: that a request waits for its turn; longer than the other, so that it is let in after a line that is dead.
    """

    quiet_seconds: float = 3.0
    wait_seconds: float = 5.0
    writers: dict[Path, Writer] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def alone(self, lock: Path, *, after_quiet_seconds: float) -> AsyncIterator[Writer]:
        """Nobody else writes to the upload for the body. Raises UploadBusy when it cannot be had in `wait_seconds`.

        Args:
            after_quiet_seconds: how long an earlier request of this process must have been quiet to be ended.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self.wait_seconds
        while (held := await asyncio.to_thread(_held, lock)) is None:
            earlier, now = self.writers.get(lock), loop.time()
            if earlier is not None and now - earlier.heard_at >= after_quiet_seconds:
                earlier.stopped.set()
            if now >= until:
                raise UploadBusy("Another request writes to this upload", fix="Wait for its end")
            await asyncio.sleep(LOOK_SECONDS)
        self.writers[lock] = writer = Writer(loop.time())
        try:
            yield writer
        finally:
            del self.writers[lock]
            _leave(lock, held)


@contextlib.contextmanager
def alone_at_once(lock: Path) -> Iterator[None]:
    """Nobody writes to the upload for the body. Raises UploadBusy when somebody does now. Blocking."""
    if (held := _held(lock)) is None:
        raise UploadBusy("A request writes to this upload", fix="Wait for its end")
    try:
        yield
    finally:
        _leave(lock, held)


async def coming(chunks: AsyncIterator[bytes], writer: Writer) -> AsyncGenerator[bytes, None]:
    """The chunks as they come, until the writer is stopped: a caller whose line is dead says nothing for a long time. Raises UploadBusy."""
    loop, stop = asyncio.get_running_loop(), asyncio.ensure_future(writer.stopped.wait())
    try:
        while True:
            chunk = asyncio.ensure_future(anext(chunks, None))
            try:
                await asyncio.wait({chunk, stop}, return_when=asyncio.FIRST_COMPLETED)
                if writer.stopped.is_set():
                    raise UploadBusy("Another request goes on with this upload", fix="Ask where it stands")
                if (came := chunk.result()) is None:
                    return
            finally:
                if not chunk.done():
                    chunk.cancel()
                    await asyncio.wait({chunk})
            writer.heard_at = loop.time()
            yield came
    finally:
        stop.cancel()


async def settled(work: Callable[[*Given], Made], *given: *Given) -> Made:
    """What blocking work in a thread makes. It has always ended when this has: a thread goes on when whoever waits for it is cancelled."""
    cancelled, running = None, asyncio.ensure_future(asyncio.to_thread(work, *given))
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()  # looked at, so that nobody is told that it was not
        raise cancelled
    return running.result()


def append(file: FileIO, chunk: bytes, folder: Path, kept_bytes: int) -> None:
    """All of the bytes, where the disk has room for them beside `kept_bytes`; one that is full takes a part first. Raises DiskFull."""
    check_room(folder, len(chunk), kept_bytes=kept_bytes)
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _held(lock: Path) -> FileIO | None:
    """The lock, or None while somebody else has it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        return open_alone(lock)
    except BlockingIOError:
        return None


def _leave(lock: Path, held: FileIO) -> None:
    lock.unlink(missing_ok=True)
    held.close()
