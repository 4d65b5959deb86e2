"""The validator as one process: stages, emission, the axon that gives out train rows, and the customers' API."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass

from fastapi import FastAPI

from gradients.axon.client import AxonClient
from gradients.axon.descriptors import raise_limit
from gradients.axon.serve import serving
from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.cluster.executor import RayExecutor
from gradients.config import AxonSettings
from gradients.errors import SetupError
from gradients.log import get_logger
from validator.confinement import Confinement
from validator.emission import Emission
from validator.engine import StepEngine
from validator.loops import run_forever
from validator.metrics import SANDBOXED
from validator.progress import ProgressBoard
from validator.pruning import Pruner
from validator.recording import Recorder
from validator.schedule import Schedule
from validator.settings import ApiSettings

log = get_logger("validator")


@dataclass(frozen=True, slots=True)
class Daemon:
    """All parts of a running validator."""

    gateway: ChainGateway
    view: ChainView
    client: AxonClient
    engine: StepEngine
    emission: Emission
    progress: ProgressBoard
    recorder: Recorder
    pruner: Pruner
    schedule: Schedule
    axon_app: FastAPI
    api_app: FastAPI
    axon: AxonSettings
    api: ApiSettings
    confinement: Confinement
    cluster: RayExecutor | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve and work until `stop` is set. Raises SetupError when the hotkey is not registered or a port is taken."""
        SANDBOXED.set(self.confinement.sandboxed)
        if not self.confinement.sandboxed:
            log.warning("sandbox_off", problem=self.confinement.why_not)
        try:
            await self.view.start()
            hotkey = self.gateway.hotkey
            if (neuron := self.view.metagraph().by_hotkey(hotkey)) is None:
                raise SetupError(
                    f"The hotkey {hotkey} is not registered on subnet {self.gateway.netuid}",
                    fix="Run `gradients register` first",
                )
            if not neuron.validator_permit:
                log.warning("no_validator_permit", hotkey=hotkey, stake_alpha=neuron.stake_alpha)
            async with (
                serving(self.axon_app, self.axon.host, self.axon.port) as axon,
                serving(self.api_app, self.api.host, self.api.port, limits=self.api.limits()) as api,
                self.cluster.serving() if self.cluster else contextlib.nullcontext(),
            ):
                address = self.axon.published(axon)
                if await self.gateway.publish_axon(address):
                    log.info("axon_published", url=address.url())
                log.info("validator_ready", axon=axon.url(), api=api.url(), block=self.view.block)
                await self._work(stop)
        finally:
            await self.gateway.close()
            await self.client.close()
        log.info("validator_stopped")

    async def _work(self, stop: asyncio.Event) -> None:
        """Every loop, until `stop`."""

        async def follow() -> None:
            await run_forever(self.view.follow, name="chain")

        async with asyncio.TaskGroup() as group:
            runs = (
                follow,
                self.engine.run,
                self.emission.run,
                self.progress.run,
                self.recorder.run,
                self.pruner.run,
                self.schedule.run,
            )
            loops = [group.create_task(run()) for run in runs]
            await stop.wait()
            for loop in loops:
                loop.cancel()


async def run_until_signalled(daemon: Daemon) -> None:
    """Run the daemon until SIGTERM or SIGINT."""
    raise_limit()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await daemon.run(stop)
