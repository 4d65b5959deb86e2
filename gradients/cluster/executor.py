"""Runs jobs on a Ray cluster: their files go by digest, their results come back as files, and the ledger here stays the truth.

Covers: a node that dies, the head that is started anew, the driver that is killed; the job of a lost node runs once more, elsewhere if it
must, and what a node brings after it was given up is refused. Does not cover: two kinds of GPU that compute a row a little differently;
build a cluster of one kind, or name one in `[measure] devices`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradients.axon.limits import ServerLimits
from gradients.axon.serve import serving
from gradients.cluster.connection import Connection, Lost
from gradients.cluster.digests import Digests
from gradients.cluster.exchange import LOG, RESULT, Exchange, Run, exchange_app
from gradients.cluster.parcel import Tree, pack, trees_of
from gradients.domain.json import JsonObject
from gradients.errors import GradientsError, JobFailed, OutsideError
from gradients.execution.job import WAITING, Job, ReportProgress
from gradients.execution.records import (
    MOST_RESULT_BYTES,
    ErrorRecord,
    digest,
    finished_result,
    prepare_folder,
    write_result,
)
from gradients.files.plain import read_plain
from gradients.log import get_logger

TRIES = 2  # of a job whose node was lost
_ANSWER_SECONDS = 60.0
_REST_SECONDS = 0.5  # before a lost job is given again
_TURN_SECONDS = 2.0  # between looks at a job that has not begun
_STOP_SECONDS = 20.0  # for a node to end a job and bring what there is of it
_SILENCE_SECONDS = 90.0  # of a node at work, after which it counts as lost
_LIMITS = ServerLimits(connections_per_address=1024, keep_alive_seconds=120.0)

log = get_logger("cluster")


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster."""

    id: str
    cpus: int
    gpus: int
    memory: int  # bytes that Ray gives out
    kind: str  # of its GPUs, as Ray calls them


class RayExecutor:
    """Runs jobs on whichever node has what they ask for. Use it within `serving`, on one loop."""

    def __init__(
        self,
        address: str,
        *,
        environment: Mapping[str, str],
        host: str,
        port: int,
        origin: str | None,
        sandboxed: bool,
        patience_seconds: float = 600.0,
    ) -> None:
        """Args:
        address: HOST:PORT of the cluster's head.
        environment: Ray's variables, its token among them.
        host, port: where nodes fetch and bring files; port 0 takes a free one.
        origin: URL by which nodes reach that, if it is another one.
        sandboxed: whether nodes run jobs in a sandbox, as this machine would.
        patience_seconds: how long the cluster may be away, or without a node for a job, before that is an OutsideError.
        """
        self._connection = Connection(address, environment)
        self._exchange = Exchange()
        self._digests = Digests()
        self._host, self._port, self._origin = host, port, origin
        self._sandboxed = sandboxed
        self._patience_seconds = patience_seconds

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve what nodes fetch, for the body. Raises SetupError when the port is taken."""
        async with serving(exchange_app(self._exchange), self._host, self._port, limits=_LIMITS) as bound:
            self._origin = self._origin or bound.url()
            try:
                yield
            finally:
                await self._connection.close()

    async def nodes(self) -> list[Node]:
        """The nodes that live. Raises OutsideError when the cluster is away for too long."""
        over = time.monotonic() + self._patience_seconds
        while "lost" in (answer := await self._look()):
            if time.monotonic() > over:
                raise OutsideError(f"The cluster went away: {answer['lost']}", code="cluster_unreachable")
            await asyncio.sleep(_REST_SECONDS)
        return [Node(**node) for node in answer["nodes"]]

    async def _look(self) -> Mapping[str, Any]:
        """What a driver says of the nodes; "lost" where it was lost over that."""
        await self._reach(lambda _: None)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), self._connection.order({}, "nodes") as answers:
                return await answers.get()
        except TimeoutError:
            return {"lost": "it did not answer"}

    async def run(self, job: Job, *, report: ReportProgress, node: str | None = None) -> JsonObject:
        """As Executor.run; `report` is called with WAITING itself as long as the job has not begun.

        Args:
            node: the only one that may run it.

        Raises OutsideError (cluster_unreachable, cluster_unfit) where no node can be had.
        """
        finished = await asyncio.to_thread(finished_result, job)
        if finished is not None:
            return finished
        await asyncio.to_thread(prepare_folder, job)
        trees = await asyncio.to_thread(trees_of, job, self._digests.sha256)
        lost, since = 0, time.monotonic()
        while True:
            try:
                return await self._try(job, trees, report, node)
            except Lost as problem:
                lost += problem.begun
                log.warning("job_lost", function=job.function, begun=problem.begun, problem=str(problem))
                if lost >= TRIES:
                    raise JobFailed(f"{job.function} was lost {lost} times: {problem}", code="job_killed") from problem
                if not problem.begun and time.monotonic() - since > self._patience_seconds:
                    raise OutsideError(
                        f"The cluster begins nothing: {problem}", code="cluster_unreachable"
                    ) from problem
            await asyncio.sleep(_REST_SECONDS)

    async def _try(self, job: Job, trees: Mapping[Path, Tree], report: ReportProgress, node: str | None) -> JsonObject:
        report(WAITING)
        await self._reach(report)
        files = await asyncio.to_thread(_files, trees)
        run = self._exchange.open(files, job.folder / f"arriving-{secrets.token_hex(4)}", writes=len(job.writes))
        try:
            parcel = pack(job, trees, sandboxed=self._sandboxed, origin=self._origin or "", token=run.token)
            order = {"parcel": parcel.model_dump(mode="json"), **_needs(job), "node": node}
            try:
                async with self._connection.order(order, "run") as answers:
                    ended = await self._follow(run, answers, report)
            finally:
                await asyncio.shield(asyncio.to_thread(_adopt, run, job))
            if error := ended["error"]:
                raise _error(ErrorRecord.model_validate(error), job)
            return await asyncio.to_thread(_result, run, job)
        finally:
            await asyncio.shield(asyncio.to_thread(self._exchange.close, run))

    async def _reach(self, report: ReportProgress) -> None:
        """Wait for a cluster to give orders to. Raises OutsideError when there is none for too long."""
        over = time.monotonic() + self._patience_seconds
        while True:
            try:
                await self._connection.open()
            except OutsideError:
                if time.monotonic() > over:
                    raise
                report(WAITING)
                await asyncio.sleep(_TURN_SECONDS)
            else:
                return

    async def _follow(
        self, run: Run, answers: asyncio.Queue[Mapping[str, Any]], report: ReportProgress
    ) -> Mapping[str, Any]:
        """How the job ended. Raises Lost. Cancelled, it first lets the node bring what there is."""
        try:
            return await self._until_ended(run, answers, report)
        except asyncio.CancelledError:
            run.stopping = True
            with suppress(TimeoutError, Lost, OutsideError):
                async with asyncio.timeout(_STOP_SECONDS if run.begun else 0.0):
                    await self._until_ended(run, answers, lambda _: None)
            raise

    async def _until_ended(
        self, run: Run, answers: asyncio.Queue[Mapping[str, Any]], report: ReportProgress
    ) -> Mapping[str, Any]:
        over = time.monotonic() + self._patience_seconds
        while True:
            try:
                async with asyncio.timeout(_TURN_SECONDS):
                    answer = await answers.get()
            except TimeoutError:
                if not run.begun:
                    report(WAITING)
                elif time.monotonic() - run.heard > _SILENCE_SECONDS:
                    raise Lost(f"its node was silent for {_SILENCE_SECONDS:g} s", begun=True) from None
                continue
            if "told" in answer:
                report(answer["told"])
            elif "started" in answer:
                run.begun, run.heard = True, time.monotonic()
            elif "waiting" in answer:
                report(WAITING)
                if time.monotonic() > over:
                    raise OutsideError(f"The cluster cannot run this: {answer['waiting']}", code="cluster_unfit")
            elif "lost" in answer:
                raise Lost(answer["lost"], begun=run.begun)
            elif "ended" in answer:
                ended: Mapping[str, Any] = answer["ended"]
                return ended


def _needs(job: Job) -> JsonObject:
    """What the job asks of a node. On the CPU the memory counts, with a GPU the GPUs do."""
    memory = job.holds.bytes if job.holds and not job.devices else 0
    kind = job.devices[0].partition("/")[0] if job.devices else ""  # as gpu devices of nodes are named
    return {"cpus": job.threads, "gpus": len(job.devices), "memory": memory, "kind": kind}


def _files(trees: Mapping[Path, Tree]) -> dict[str, Path]:
    """Where the files lie here, by digest."""
    return {
        file.sha256: place / file.path if tree.is_folder else place
        for place, tree in trees.items()
        for file in tree.files
    }


def _adopt(run: Run, job: Job) -> None:
    """Put what a node has brought in its place."""
    if (said := run.folder / LOG / "stderr.log").is_file():
        said.replace(job.folder / "stderr.log")
    for number, place in enumerate(job.writes):
        brought = run.folder / str(number)
        for file in brought.rglob("*"):
            if file.is_file():
                target = place / file.relative_to(brought)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)


def _error(record: ErrorRecord, job: Job) -> GradientsError:
    """The error again; its worker's log lies here now."""
    log_here = f"See {job.folder / 'stderr.log'}"
    return record.model_copy(update={"fix": log_here} if record.kind == JobFailed.__name__ else {}).error()


def _result(run: Run, job: Job) -> JsonObject:
    """The function's result, left in the job's folder as any other. Raises JobFailed when the node brought none."""
    try:
        result: JsonObject = json.loads(read_plain(run.folder / RESULT / "result.json", most_bytes=MOST_RESULT_BYTES))
    except (OSError, ValueError) as error:
        raise JobFailed(f"{job.function} ended without a result", code="job_crashed") from error
    write_result(job.folder, job_digest=digest(job), result=result)
    return result
