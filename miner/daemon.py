"""The miner as one process: its axon, and one attempt per accepted task, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fastapi import FastAPI

from gradients.axon.descriptors import raise_limit
from gradients.axon.serve import serving
from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.conditions.daemon import watch_of
from gradients.conditions.state import Conditions
from gradients.errors import SetupError
from gradients.log import get_logger
from gradients.monitoring.figures import figures_look
from gradients.monitoring.routes import monitoring, readiness
from gradients.monitoring.tracing import tracing
from miner.attempt import Attempts
from miner.given_bases import sweep_given
from miner.journal import Journal
from miner.metrics import count_tasks
from miner.outcomes import Outcomes
from miner.settings import MinerSettings

SWEEP_EVERY_BLOCKS = 50

log = get_logger("miner")


@dataclass
class Daemon:
    """All parts of a running miner."""

    gateway: ChainGateway
    view: ChainView
    journal: Journal
    attempts: Attempts
    app: FastAPI
    outcomes: Outcomes
    settings: MinerSettings
    conditions: Conditions
    begun: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    page: FastAPI | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve and train until `stop` is set. Raises SetupError when the hotkey is not registered or the port is taken."""
        try:
            await self.view.start()
            if self.view.metagraph().by_hotkey(self.gateway.hotkey) is None:
                raise SetupError(
                    f"The hotkey {self.gateway.hotkey} is not registered on subnet {self.gateway.netuid}",
                    fix="Run `gradients register` first",
                )
            for record in self.journal.all():  # what a crash interrupted, before anything new can be among it
                if record.phase in ("training", "trained"):
                    self.begun.put_nowait(record.task_id)
            await self._serve(stop)
        finally:
            await self.gateway.close()
            await self.attempts.client.close()
        log.info("miner_stopped")

    async def _serve(self, stop: asyncio.Event) -> None:
        """The axon, the routes for the operator, and every loop, until `stop`."""
        axon, monitored = self.settings.axon, self.settings.monitoring
        async with (
            serving(self.app, axon.host, axon.port) as listening,
            monitoring(monitored, lambda: readiness(self.conditions)),
            self._page(),
        ):
            address = axon.published(listening)
            if await self.gateway.publish_axon(address):
                log.info("axon_published", url=address.url())
                await self.view.refresh()
            watch = await watch_of(
                "miner",
                self.settings,
                gateway=self.gateway,
                view=self.view,
                clock=self.attempts.clock,
                conditions=self.conditions,
                address=address,
                own=[
                    figures_look(
                        "miner",
                        view=self.view,
                        hotkey=self.gateway.hotkey,
                        folder=self.settings.folder,
                        own=lambda: count_tasks(self.journal),
                    )
                ],
            )
            log.info("miner_ready", axon=address.url(), hotkey=self.gateway.hotkey, block=self.view.block)
            async with asyncio.TaskGroup() as group:
                runs = (self.view.follow, self._attempt_all, self._sweep, self.outcomes.run, watch.run)
                loops = [group.create_task(run()) for run in runs]
                await stop.wait()
                for loop in loops:
                    loop.cancel()

    @contextlib.asynccontextmanager
    async def _page(self) -> AsyncIterator[None]:
        """The miner's own page for the body; a port that is taken costs a warning and nothing else."""
        async with contextlib.AsyncExitStack() as stack:
            if self.page is not None:
                where = self.settings.page
                try:
                    address = await stack.enter_async_context(serving(self.page, where.host, where.port))
                    log.info("page_served", url=address.url("/"))
                except SetupError as error:
                    log.warning("page_not_served", problem=str(error))
            yield

    async def _sweep(self) -> None:
        """Free the disk of tasks that nobody can ask about any more, and hold tasks and bases to their limits."""
        keep = self.settings.keep
        while True:
            block = self.view.block
            try:
                if not self.settings.keep_models:
                    for task_id in await asyncio.to_thread(self.journal.sweep, block=block):
                        log.info("task_swept", task=task_id)
                for task_id in await asyncio.to_thread(self.journal.keep_within, keep.most_bytes, block=block):
                    log.info("task_shrunk", task=task_id)
                for name in await asyncio.to_thread(self._sweep_bases):
                    log.info("base_swept", base=name)
            except Exception:  # the loop's outermost: a file that cannot be removed must not end the miner
                log.exception("sweep_failed")
            await self.view.wait_for_block(self.view.block + SWEEP_EVERY_BLOCKS)

    def _sweep_bases(self) -> list[str]:
        """Take bases out of the cache that no task here needs; names of those that validators had given, which go whatever the limit."""
        needed = [record.base for record in self.journal.all() if record.phase in ("training", "trained")]
        bases = self.attempts.trainings.bases
        swept = [] if self.settings.keep_models else sweep_given(bases.cache, needed=needed)
        bases.keep_within(self.settings.keep.caches_most_bytes, needed=needed)
        return swept

    async def _attempt_all(self) -> None:
        """One attempt per begun task, side by side."""
        async with asyncio.TaskGroup() as group:
            while True:
                task_id = await self.begun.get()
                group.create_task(self.attempts.run(task_id), name=task_id)


async def run_until_signalled(daemon: Daemon) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    raise_limit()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tracing("miner", daemon.settings.tracing):
        await daemon.run(stop)
