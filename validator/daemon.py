"""The validator as one process: stages, emission, the axon that gives out train rows, and the customers' API."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass, field

from fastapi import FastAPI

from gradients.axon.client import AxonClient
from gradients.axon.descriptors import raise_limit
from gradients.axon.serve import serving
from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.clock import Clock, SystemClock
from gradients.cluster.executor import RayExecutor
from gradients.conditions.daemon import watch_of
from gradients.conditions.state import Conditions
from gradients.conditions.watch import Watch
from gradients.domain.chain import AxonAddress
from gradients.errors import SetupError
from gradients.log import get_logger
from gradients.monitoring.figures import figures_look
from gradients.monitoring.tracing import tracing
from validator.api.dependencies import OpenStreams
from validator.conditions import ledger_look
from validator.confinement import Confinement
from validator.engine import StepEngine
from validator.figures import Figures
from validator.ledger import Ledger
from validator.loops import run_forever
from validator.metrics import SANDBOXED
from validator.pay.emission import Emission
from validator.progress import ProgressBoard
from validator.pruning import Pruner
from validator.recording import Recorder
from validator.schedule import Schedule
from validator.settings import ValidatorSettings

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
    settings: ValidatorSettings
    ledger: Ledger
    conditions: Conditions
    confinement: Confinement
    streams: OpenStreams = field(default_factory=OpenStreams)
    cluster: RayExecutor | None = None
    clock: Clock = field(default_factory=SystemClock)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve and work until `stop` is set. Raises SetupError when the hotkey is not registered or a port is taken."""
        SANDBOXED.set(self.confinement.sandboxed)
        if not self.confinement.sandboxed:
            log.warning("sandbox_off", problem=self.confinement.why_not)
        try:
            await self.view.start()
            hotkey = self.gateway.hotkey
            if self.view.metagraph().by_hotkey(hotkey) is None:
                raise SetupError(
                    f"The hotkey {hotkey} is not registered on subnet {self.gateway.netuid}",
                    fix="Run `gradients register` first",
                )
            ours, customers = self.settings.axon, self.settings.api
            async with (
                serving(self.axon_app, ours.host, ours.port) as axon,
                serving(self.api_app, customers.host, customers.port, limits=customers.limits()) as api,
                self.cluster.serving() if self.cluster else contextlib.nullcontext(),
            ):
                address = ours.published(axon)
                if await self.gateway.publish_axon(address):
                    log.info("axon_published", url=address.url())
                    await self.view.refresh()
                watch = await self._watch(address)
                log.info("validator_ready", axon=axon.url(), api=api.url(), block=self.view.block)
                try:
                    await self._work(stop, watch)
                finally:
                    self.streams.closing.set()  # or the server would wait for them
        finally:
            await self.gateway.close()
            await self.client.close()
        log.info("validator_stopped")

    async def _watch(self, address: AxonAddress) -> Watch:
        """What has to stay as it is now."""
        return await watch_of(
            "validator",
            self.settings,
            gateway=self.gateway,
            view=self.view,
            clock=self.clock,
            conditions=self.conditions,
            address=address,
            version_key=self.emission.version_key,
            has_gpu=self.cluster is None,
            own=[
                ledger_look(self.ledger, rest_seconds=self.settings.chain.refresh_seconds),
                figures_look(
                    "validator",
                    view=self.view,
                    hotkey=self.gateway.hotkey,
                    folder=self.settings.folder,
                    own=Figures(self.ledger, self.view, self.gateway.hotkey).take,
                ),
            ],
        )

    async def _work(self, stop: asyncio.Event, watch: Watch) -> None:
        """Every loop, until `stop`."""

        async def follow() -> None:
            await run_forever(self.view.follow, name="chain")

        async with asyncio.TaskGroup() as group:
            runs = (
                follow,
                watch.run,
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
    with tracing("validator", daemon.settings.tracing):
        await daemon.run(stop)
