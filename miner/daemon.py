"""The miner as one process: its axon, and one attempt per accepted task, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field

from fastapi import FastAPI

from gradients.axon.serve import serving
from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.config import AxonSettings
from gradients.domain.chain import AxonAddress
from gradients.errors import SetupError
from gradients.log import get_logger
from miner.attempt import Attempts
from miner.journal import Journal

log = get_logger("miner")


@dataclass
class Daemon:
    """All parts of a running miner."""

    gateway: ChainGateway
    view: ChainView
    journal: Journal
    attempts: Attempts
    app: FastAPI
    axon: AxonSettings
    begun: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve and train until `stop` is set. Raises SetupError when the hotkey is not registered or the port is taken."""
        await self.view.start()
        self._check_registered()
        async with serving(self.app, self.axon.host, self.axon.port) as listening:
            address = AxonAddress(self.axon.external_ip or listening.ip, self.axon.external_port or listening.port)
            if await self.gateway.publish_axon(address):
                log.info("axon_published", url=address.url())
            log.info("miner_ready", axon=address.url(), hotkey=self.gateway.hotkey, block=self.view.block)
            await self._work(stop)
        await self.gateway.close()
        log.info("miner_stopped")

    async def _work(self, stop: asyncio.Event) -> None:
        for record in self.journal.all():
            if record.phase in ("training", "trained"):
                self.begun.put_nowait(record.task_id)
        async with asyncio.TaskGroup() as group:
            loops = [group.create_task(self.view.follow()), group.create_task(self._attempt_all())]
            await stop.wait()
            for loop in loops:
                loop.cancel()

    async def _attempt_all(self) -> None:
        """One attempt per begun task, side by side."""
        async with asyncio.TaskGroup() as group:
            while True:
                task_id = await self.begun.get()
                group.create_task(self.attempts.run(task_id), name=task_id)

    def _check_registered(self) -> None:
        if self.view.metagraph().by_hotkey(self.gateway.hotkey) is None:
            raise SetupError(
                f"The hotkey {self.gateway.hotkey} is not registered on subnet {self.gateway.netuid}",
                fix="Run `gradients register` first",
            )


async def run_until_signalled(daemon: Daemon) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await daemon.run(stop)
