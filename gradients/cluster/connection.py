"""The daemon's end of the driver: starts it, gives it orders, passes its answers on, and starts another one when it has died."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import gradients
from gradients.cluster.driver import LINE_BYTES
from gradients.errors import OutsideError, SetupError
from gradients.extras import how_to_install
from gradients.log import get_logger

GONE = "the connection to the cluster ended"
_READY_SECONDS = 60.0
_TAIL_BYTES = 2000
_LAST_WORDS_SECONDS = 2.0
_REST_SECONDS, _LONGEST_REST_SECONDS = 1.0, 15.0
_MODULE = "gradients.cluster.driver"

log = get_logger("cluster")


class Lost(Exception):
    """A run has ended without an answer: its node or the connection to the cluster is gone."""

    def __init__(self, problem: str, *, begun: bool) -> None:
        """Args:
        begun: whether some node had begun the job.
        """
        super().__init__(problem)
        self.begun = begun


class Connection:
    """Orders to a cluster, and its answers. Use it on one loop."""

    def __init__(self, address: str, environment: Mapping[str, str]) -> None:
        """Args:
        address: HOST:PORT of the head, as `ray start` prints it.
        environment: what lets us in, see gradients.config.ray_environment.
        """
        self._address = address
        self._environment = environment
        self._process: Process | None = None
        self._starting = asyncio.Lock()
        self._reading: asyncio.Task[None] | None = None
        self._answers: dict[str, asyncio.Queue[Mapping[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._failures = 0

    async def open(self) -> None:
        """See that there is a driver. Raises OutsideError (cluster_unreachable) when there is no cluster, SetupError without Ray."""
        async with self._starting:
            if self._reading is None or self._reading.done():
                await asyncio.sleep(min(self._failures * _REST_SECONDS, _LONGEST_REST_SECONDS))
                self._process = await self._start()

    @asynccontextmanager
    async def order(self, order: Mapping[str, Any], kind: str) -> AsyncIterator[asyncio.Queue[Mapping[str, Any]]]:
        """Give an order of a kind; its answers come into the queue, {"lost": reason} the last of them where it is lost."""
        name = str(next(self._numbers))
        self._answers[name] = queue = asyncio.Queue[Mapping[str, Any]]()
        try:
            if not self._write({kind: name, **order}):
                queue.put_nowait({"lost": GONE})
            yield queue
        finally:
            del self._answers[name]
            if kind == "run":
                self._write({"kill": name})  # which is nothing when it has ended

    async def close(self) -> None:
        """End the driver, and with it whatever it has on the cluster."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    def _write(self, order: Mapping[str, Any]) -> bool:
        """Whether there was a driver to write to."""
        if self._reading is None or self._reading.done() or self._process is None or self._process.stdin is None:
            return False
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        return True

    async def _start(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _MODULE, self._address),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=LINE_BYTES,
            env={
                "PATH": os.defpath,
                "PYTHONPATH": str(Path(gradients.__file__).parents[1]),
                "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
                **self._environment,
            },
            start_new_session=True,
        )
        assert process.stdout is not None and process.stderr is not None  # noqa: S101, PT018 (they were asked for)
        try:
            async with asyncio.timeout(_READY_SECONDS):
                first = await process.stdout.readline()
        except TimeoutError:
            first = b""
        if not first:
            with suppress(ProcessLookupError):
                process.kill()
            said = (await process.stderr.read())[-_TAIL_BYTES:].decode(errors="replace")
            await process.wait()
            self._failures += 1
            raise _refusal(self._address, said)
        self._failures = 0
        self._reading = asyncio.create_task(self._read(process, asyncio.create_task(_drain(process.stderr))))
        log.info("cluster_connected", address=self._address)
        return process

    async def _read(self, process: Process, draining: asyncio.Task[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 (asked for)
        try:
            while line := await process.stdout.readline():
                answer = json.loads(line)
                if (queue := self._answers.get(answer.get("id", ""))) is not None:
                    queue.put_nowait(answer)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await asyncio.wait({draining}, timeout=_LAST_WORDS_SECONDS)  # others may hold the pipe open
            said = draining.result() if draining.done() else b""
            draining.cancel()
            log.warning("cluster_lost", address=self._address, problem=said.decode(errors="replace").strip()[-300:])
            for queue in self._answers.values():
                queue.put_nowait({"lost": GONE})


async def _drain(stream: asyncio.StreamReader) -> bytes:
    """The last bytes of what is said, however much it is."""
    tail = b""
    while chunk := await stream.read(65536):
        tail = (tail + chunk)[-_TAIL_BYTES:]
    return tail


def _refusal(address: str, said: str) -> OutsideError | SetupError:
    if "No module named 'ray'" in said:
        return SetupError("Ray is not installed here", fix=how_to_install("ray"))
    last = said.strip().splitlines()[-1] if said.strip() else "it did not answer"
    return OutsideError(
        f"There is no Ray cluster to work with at {address}: {last}",
        code="cluster_unreachable",
        fix="Start one with `ray start --head` (docs/fleet.md), with the same RAY_AUTH_MODE and token here and there",
    )
