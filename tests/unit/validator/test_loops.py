"""A daemon's loops go on, whatever goes wrong in one turn of one of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from gradients.axon.client import AxonClient, Peer
from gradients.axon.messages import AttemptStatus
from gradients.axon.ports import free_ports
from gradients.bases.bases import BaseModels
from gradients.conditions.state import Conditions
from gradients.config import AxonSettings
from gradients.domain.chain import AxonAddress
from gradients.domain.task import Hotkey, TaskState
from gradients.errors import DiskFull, SetupError
from gradients.repo.store import ContentStore
from gradients.testing.clock import HandClock
from tests.unit.validator.market import NOWHERE, Subnet, draft, full_disk, until
from validator.api.uploads import Uploads
from validator.confinement import Confinement
from validator.daemon import Daemon
from validator.engine import StepEngine
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.ledger.rows import LedgerTable
from validator.loops import run_forever
from validator.pay.emission import Emission
from validator.progress import ProgressBoard
from validator.pruning import Pruner
from validator.recording import Recorder
from validator.schedule import Schedule
from validator.settings import ApiSettings, KeepSettings, ScheduleSettings, ValidatorSettings
from validator.specs.intake import Intake


def test_what_goes_wrong_in_one_turn_costs_a_rest_and_no_more() -> None:
    errors = [DiskFull("no room"), RuntimeError("a bug"), OSError("a cable")]
    turns: list[int] = []

    async def turn() -> None:
        await asyncio.sleep(0)
        turns.append(len(errors))
        if errors:
            raise errors.pop()

    async def scenario() -> None:
        loop = asyncio.create_task(run_forever(turn, name="test", rest_seconds=0.01))
        await until(lambda: len(turns) >= 6)
        loop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loop

    asyncio.run(scenario())
    assert turns[:6] == [3, 2, 1, 0, 0, 0]


@pytest.mark.parametrize("name", ["engine", "emission", "progress", "schedule"])
def test_a_ledger_that_fails_ends_no_loop(ledger: Ledger, clock: HandClock, name: str) -> None:
    """Its tables are gone: nothing that a loop does can work."""

    async def scenario() -> None:
        subnet = Subnet(clock)
        await subnet.start()
        client = AxonClient(subnet.keypair, allow_private=True)
        running = asyncio.create_task(getattr(_parts(ledger, subnet, client, clock), name).run())
        following = asyncio.create_task(subnet.view.follow())
        await asyncio.sleep(0.1)
        LedgerTable.metadata.drop_all(ledger.engine)
        await subnet.chain.advance(2)
        await asyncio.sleep(0.3)
        assert not running.done()
        for task in (running, following):
            task.cancel()
        await asyncio.gather(running, following, return_exceptions=True)
        await client.close()

    asyncio.run(scenario())


def test_the_engine_goes_on_when_there_is_room_again(ledger: Ledger, clock: HandClock, tmp_path: Path) -> None:
    stage = Noting()

    async def scenario() -> None:
        subnet = Subnet(clock)
        engine = StepEngine(ledger, subnet.view, {stage.state: stage}, owner="one")
        draft(ledger)
        with full_disk(tmp_path):
            running = asyncio.create_task(engine.run())
            await asyncio.sleep(0.3)
            assert not running.done()
            assert stage.claims == []
        await until(lambda: len(stage.claims) == 1)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
    assert stage.claims[0].attempts == 1


def _pruner(ledger: Ledger, clock: HandClock) -> Pruner:
    folders = Folders(Path("unused"))
    uploads = Uploads(folders.uploads, ledger.uploads, 1, 1)
    return Pruner(ledger, folders, ContentStore(folders.blobs), uploads, clock, KeepSettings())


def test_a_daemon_that_cannot_start_lets_go_of_its_connections(ledger: Ledger, clock: HandClock) -> None:
    async def scenario() -> None:
        subnet = Subnet(clock)  # on which nobody has registered the hotkey
        client = AxonClient(subnet.keypair, allow_private=True)
        loops = _parts(ledger, subnet, client, clock)
        daemon = Daemon(
            gateway=subnet.gateway,
            view=subnet.view,
            client=client,
            engine=loops.engine,
            emission=loops.emission,
            progress=loops.progress,
            recorder=Recorder(ledger, subnet.gateway, subnet.keypair, Folders(Path("unused")), clock),
            pruner=_pruner(ledger, clock),
            schedule=loops.schedule,
            axon_app=FastAPI(),
            api_app=FastAPI(),
            settings=ValidatorSettings(),
            ledger=ledger,
            conditions=Conditions(),
            confinement=Confinement(sandboxed=True),
        )
        with pytest.raises(SetupError, match="not registered"):
            await daemon.run(asyncio.Event())
        assert subnet.gateway.closed
        with pytest.raises(RuntimeError, match="client has been closed"):
            await client.get(
                Peer(Hotkey(subnet.keypair.ss58_address), AxonAddress("127.0.0.1", 9999)), "/", answer=AttemptStatus
            )

    asyncio.run(scenario())


def test_the_api_takes_more_connections_of_a_proxy_than_the_axon_does_of_a_peer(
    ledger: Ledger, clock: HandClock, tmp_path: Path
) -> None:
    async def scenario() -> None:
        subnet = Subnet(clock)
        await subnet.start()
        (port,) = free_ports("127.0.0.1", 1)
        client = AxonClient(subnet.keypair, allow_private=True)
        loops = _parts(ledger, subnet, client, clock)
        api = FastAPI()
        api.get("/slow")(partial(asyncio.sleep, 0.2))
        daemon = Daemon(
            gateway=subnet.gateway,
            view=subnet.view,
            client=client,
            engine=loops.engine,
            emission=loops.emission,
            progress=loops.progress,
            recorder=Recorder(ledger, subnet.gateway, subnet.keypair, Folders(Path("unused")), clock),
            pruner=_pruner(ledger, clock),
            schedule=loops.schedule,
            axon_app=FastAPI(),
            api_app=api,
            settings=ValidatorSettings(
                folder=tmp_path, axon=AxonSettings(host="127.0.0.2", port=0), api=ApiSettings(port=port)
            ),
            ledger=ledger,
            conditions=Conditions(),
            confinement=Confinement(sandboxed=True),
        )
        stop = asyncio.Event()
        running = asyncio.create_task(daemon.run(stop))
        await until(lambda: any(neuron.axon for neuron in subnet.chain.graph.neurons))
        answers = []
        async with httpx.AsyncClient(trust_env=False, timeout=120, limits=httpx.Limits(max_connections=100)) as proxy:
            for _ in range(2):
                asked = (proxy.get(f"http://127.0.0.1:{port}/slow") for _ in range(100))
                answers += [answer.status_code for answer in await asyncio.gather(*asked)]
        stop.set()
        await running
        assert answers == [200] * 200

    asyncio.run(scenario())


class Noting:
    """A stage that only notes what it is given."""

    state = TaskState.DRAFT

    def __init__(self) -> None:
        self.claims: list[Claim] = []

    async def run(self, claim: Claim) -> None:
        self.claims.append(claim)


@dataclass(frozen=True)
class Parts:
    """What a daemon runs."""

    engine: StepEngine
    emission: Emission
    progress: ProgressBoard
    schedule: Schedule


def _parts(ledger: Ledger, subnet: Subnet, client: AxonClient, clock: HandClock) -> Parts:
    bases = BaseModels(shipped=Path("nowhere"), cache=Path("nowhere"))
    return Parts(
        engine=StepEngine(ledger, subnet.view, {TaskState.DRAFT: Noting()}, owner="one"),
        emission=Emission(ledger, subnet.gateway, subnet.view, clock),
        progress=ProgressBoard(ledger, subnet.view, client, every_seconds=0.05),
        schedule=Schedule(
            ledger, Intake(ledger, bases, NOWHERE, lambda: None), clock, ScheduleSettings(every_hours=1), seed=1
        ),
    )
