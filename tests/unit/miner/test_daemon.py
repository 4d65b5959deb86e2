"""The miner's process: what it takes up at its start, and how it ends."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gradients.axon.auth import MetagraphPolicy
from gradients.axon.client import AxonClient
from gradients.axon.messages import Outcome
from gradients.axon.server import requires_caller, signed_app
from gradients.bases.bases import BaseModels
from gradients.chain.view import ChainView
from gradients.chain.wallet import open_wallet
from gradients.conditions.state import Conditions
from gradients.config import AxonSettings
from gradients.domain.chain import AxonAddress
from gradients.domain.task import Hotkey
from gradients.errors import ChainUnreachable, SetupError
from gradients.testing.axons import keypair_of, metagraph_of, serving_in_thread, warm_nonces
from miner.attempt import Attempts
from miner.daemon import Daemon
from miner.journal import Journal, Record
from miner.memory import GIB, Memory
from miner.outcomes import Outcomes
from miner.plan import Recipe
from miner.settings import MinerSettings
from miner.trainings import Trainings
from tests.unit.miner.fakes import OTHER_TASK, ROWS, TASK, FakeChain, FakeClock, FakeTrainer, neuron, start, write_base

MINER = open_wallet("//Miner", "//Miner//hot")
HOTKEY = Hotkey(MINER.hotkey.ss58_address)
RECIPE = Recipe.model_validate(
    {"name": "tiny-lora", "plan": {"method": "lora"}, "learning_rate": [{"up_to_parameters": "inf", "value": 1e-3}]}
)


def daemon(folder: Path, chain: FakeChain, trainer: FakeTrainer, **settings: object) -> Daemon:
    """A miner on 127.0.0.2 whose train rows lie there already."""
    chosen = MinerSettings.model_validate(
        {"folder": folder, "axon": AxonSettings(host="127.0.0.2", port=0), "monitoring": {"port": 0}} | settings
    )
    clock, journal = FakeClock(), Journal(folder / "tasks")
    view = ChainView(chain, clock)
    attempts = Attempts(
        Trainings(
            journal=journal,
            executor=trainer,
            bases=BaseModels(folder / "bases", folder / "cache"),
            recipe=RECIPE,
            memory=Memory(16 * GIB),
            settings=chosen,
            clock=clock,
            tell=lambda task_id, progress: None,
        ),
        gateway=chain,
        view=view,
        client=AxonClient(MINER.hotkey, allow_private=True),
        committing=asyncio.Lock(),
    )
    app = signed_app(keypair=MINER.hotkey, policy=MetagraphPolicy(view.metagraph))
    return Daemon(chain, view, journal, attempts, app, Outcomes(journal, view, attempts.client), chosen, Conditions())


def accept(folder: Path, task_id: str, **changes: object) -> None:
    """A record of a task that was begun, with its rows, as a kill leaves it."""
    digest = BaseModels(folder / "bases", folder / "cache").resolve("tiny").digest
    record = Record(start=start(task_id, base_digest=digest), validator="gone", accepted_at=1.0, salt="5a" * 32)
    Journal(folder / "tasks").write(record.model_copy(update=changes))
    (folder / "tasks" / task_id / "train.jsonl").write_bytes(ROWS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_base(tmp_path / "bases" / "tiny")
    return tmp_path


def run_until(made: Daemon, *, phase: str, also: Callable[[], bool] = lambda: True) -> None:
    """Run the daemon until the task is in a phase and what else is waited for is true, then stop it."""

    async def main() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(made.run(stop))
        async with asyncio.timeout(120):
            while (record := made.journal.find(TASK)) is None or record.phase != phase or not also():
                assert not running.done(), running.exception()
                await asyncio.sleep(0.02)
        stop.set()
        await running

    asyncio.run(main())


def test_what_a_kill_interrupted_is_taken_up_at_the_start(folder: Path) -> None:
    accept(folder, TASK)
    chain, trainer = FakeChain(HOTKEY, (neuron(HOTKEY, None),)), FakeTrainer()
    run_until(daemon(folder, chain, trainer), phase="committed")
    assert (len(trainer.jobs), len(chain.commits)) == (1, 1)


def test_what_has_ended_is_not_taken_up_again(folder: Path) -> None:
    accept(folder, TASK)
    accept(folder, OTHER_TASK, failure="job_failed: no memory")
    chain, trainer = FakeChain(HOTKEY, (neuron(HOTKEY, None),)), FakeTrainer()
    run_until(daemon(folder, chain, trainer), phase="committed")
    assert [job.output_folder.parent.name for job in trainer.jobs] == [TASK]


def test_a_task_that_crashes_leaves_the_daemon_and_the_others_running(folder: Path) -> None:
    accept(folder, TASK)
    chain = FakeChain(HOTKEY, (neuron(HOTKEY, None),))
    run_until(daemon(folder, chain, FakeTrainer(error=ZeroDivisionError("division by zero"))), phase="failed")


@pytest.mark.parametrize(("keep_models", "left"), [(False, ["record.json"]), (True, ["record.json", "train.jsonl"])])
def test_the_disk_is_cleared_after_a_reveal_unless_models_are_kept(
    folder: Path, keep_models: bool, left: list[str]
) -> None:
    def files() -> list[str]:
        return sorted(path.name for path in (folder / "tasks" / OTHER_TASK).iterdir())

    accept(folder, TASK)
    accept(folder, OTHER_TASK, failure="job_failed: no memory")
    made = daemon(
        folder, FakeChain(HOTKEY, (neuron(HOTKEY, None),), height=161), FakeTrainer(), keep_models=keep_models
    )
    run_until(made, phase="failed", also=lambda: files() == left)  # failed: its time is over
    assert files() == left


def test_what_became_of_a_task_is_asked_of_its_validator_and_kept(folder: Path) -> None:
    validator = keypair_of("validator")
    told = Outcome(task_id=OTHER_TASK, state="scored", loss=2.5, rank=1, ranked=1, chance=1.0, share=0.5, reason="best")
    miner, hotkey = neuron(HOTKEY, None, uid=1), Hotkey(validator.ss58_address)
    policy = MetagraphPolicy(lambda: metagraph_of(neuron(hotkey, None), miner))
    app = signed_app(keypair=validator, policy=policy, nonces=warm_nonces())

    @app.get(f"/v1/tasks/{OTHER_TASK}/outcome", dependencies=[requires_caller])
    async def outcome() -> Outcome:
        return told

    accept(folder, TASK)
    accept(folder, OTHER_TASK, manifest="{}", committed_at_block=30, validator=hotkey)
    with serving_in_thread(app) as address:
        chain = FakeChain(HOTKEY, (neuron(hotkey, address), miner), height=100)
        made = daemon(folder, chain, FakeTrainer())
        made.journal.change(OTHER_TASK, start=start(OTHER_TASK, deadline_block=50))

        def kept() -> bool:
            record = made.journal.find(OTHER_TASK)
            return record is not None and record.outcome is not None

        run_until(made, phase="committed", also=kept)
    record = Journal(folder / "tasks").find(OTHER_TASK)
    assert record is not None
    assert record.outcome == told


def test_a_folder_that_cannot_be_cleared_leaves_the_daemon_running(folder: Path) -> None:
    accept(folder, OTHER_TASK, failure="job_failed: no memory")
    accept(folder, TASK)
    trainer = FakeTrainer()
    chain = FakeChain(HOTKEY, (neuron(HOTKEY, None),), height=100)
    made = daemon(folder, chain, trainer)
    made.journal.change(OTHER_TASK, start=start(OTHER_TASK, reveal_until_block=99, deadline_block=50))
    shutil.rmtree(folder / "tasks" / OTHER_TASK)
    run_until(made, phase="committed")


def test_a_hotkey_that_is_not_registered_stops_the_start(folder: Path) -> None:
    with pytest.raises(SetupError, match="is not registered on subnet 3"):
        asyncio.run(daemon(folder, FakeChain(HOTKEY), FakeTrainer()).run(asyncio.Event()))


def test_a_chain_that_does_not_answer_stops_the_start_in_time(folder: Path) -> None:
    class SilentChain(FakeChain):
        async def block(self) -> int:
            await asyncio.sleep(3600)
            return 0

    chain = SilentChain(HOTKEY)
    made = daemon(folder, chain, FakeTrainer())
    made.view = ChainView(chain, FakeClock(), start_seconds=0.05)
    with pytest.raises(ChainUnreachable, match=r"did not answer in 0\.05 s"):
        asyncio.run(made.run(asyncio.Event()))


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        ({"host": "10.0.0.5"}, AxonAddress("10.0.0.5", 9000)),
        ({"host": "0.0.0.0", "external_ip": "203.0.113.9"}, AxonAddress("203.0.113.9", 9000)),
        ({"host": "10.0.0.5", "external_ip": "203.0.113.9", "external_port": 80}, AxonAddress("203.0.113.9", 80)),
    ],
)
def test_what_is_published_is_what_others_can_call(settings: dict[str, object], published: AxonAddress) -> None:
    axon = AxonSettings.model_validate(settings)
    assert axon.published(AxonAddress(axon.host, 9000)) == published


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_every_interface_is_not_an_address(host: str) -> None:
    with pytest.raises(SetupError, match="is not an address that others can call"):
        AxonSettings().published(AxonAddress(host, 9000))
