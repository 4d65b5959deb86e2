"""How far miners say they are: asked of those that train, kept while they do, shown and never used."""

from __future__ import annotations

import asyncio

from gradients.axon.messages import AttemptStatus
from gradients.domain.task import TaskState
from gradients.testing.clock import HandClock
from tests.unit.validator.market import TASK, WINDOW, StandIn, Subnet, assigned, claimed, until
from validator.ledger import Ledger
from validator.progress import ProgressBoard


def test_the_last_word_of_those_that_train_is_kept_until_the_task_moves_on(ledger: Ledger, clock: HandClock) -> None:
    talker, silent = StandIn("talker"), StandIn("silent")
    talker.status = AttemptStatus(task_id=TASK, phase="training", recipe="lora", fraction=0.5, step=7)
    assigned(ledger, [talker.hotkey, silent.hotkey])

    async def scenario() -> None:
        subnet = Subnet(clock)
        await subnet.start(talker, silent)
        progress = ProgressBoard(ledger, subnet.view, subnet.client(), every_seconds=0.05)
        async with subnet.serving(talker, silent):
            asking = asyncio.create_task(progress.run())
            await until(lambda: progress.of(TASK, talker.hotkey) is not None)
            assert progress.of(TASK, talker.hotkey) == talker.status
            assert progress.of(TASK, silent.hotkey) is None
            talker.status = None
            await asyncio.sleep(0.2)
            assert progress.of(TASK, talker.hotkey) is not None
            lease = claimed(ledger, TaskState.ASSIGNED).lease
            ledger.tasks.advance(lease, came_from=TaskState.ASSIGNED, to=TaskState.COLLECTED)
            await until(lambda: progress.of(TASK, talker.hotkey) is None)
            assert not asking.done()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(scenario())


def test_losses_that_were_told_stay_when_the_training_has_ended_and_after_a_restart(
    ledger: Ledger, clock: HandClock
) -> None:
    talker = StandIn("talker")
    assigned(ledger, [talker.hotkey])

    async def scenario() -> None:
        subnet = Subnet(clock)
        await subnet.start(talker)
        progress = ProgressBoard(ledger, subnet.view, subnet.client(), every_seconds=0.01)
        async with subnet.serving(talker):
            asking = asyncio.create_task(progress.run())
            for step, loss in told:
                said = {"task_id": TASK, "phase": "training", "recipe": "lora", "fraction": 0.5}
                talker.status = AttemptStatus.model_validate({**said, "step": step, "loss": loss})
                await until(lambda step=step: progress.curves(TASK).get(talker.hotkey, [(0, 0)])[-1][0] == step)  # type: ignore[misc]
            assert progress.curves(TASK) == {talker.hotkey: told}
            lease = claimed(ledger, TaskState.ASSIGNED).lease
            ledger.tasks.advance(lease, came_from=TaskState.ASSIGNED, to=TaskState.COLLECTED)
            await until(lambda: bool(ledger.events.of_task(TASK, name="training_told")))
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        restarted = ProgressBoard(ledger, subnet.view, subnet.client())
        assert restarted.curves(TASK) == {talker.hotkey: told}

    told = [(3, 2.5), (7, 2.25), (9, 2.0)]
    asyncio.run(scenario())


def test_a_task_is_looked_at_early_once_all_its_miners_say_that_they_have_failed(
    ledger: Ledger, clock: HandClock
) -> None:
    first, second = StandIn("first"), StandIn("second")
    first.status = AttemptStatus(task_id=TASK, phase="failed", recipe="lora", fraction=0.5)
    second.status = AttemptStatus(task_id=TASK, phase="training", recipe="lora", fraction=0.5)
    assigned(ledger, [first.hotkey, second.hotkey])

    def is_due() -> bool:
        return bool(ledger.tasks.due([TaskState.ASSIGNED], block=WINDOW.started_at_block))

    async def scenario() -> None:
        subnet = Subnet(clock)
        await subnet.start(first, second)
        progress = ProgressBoard(ledger, subnet.view, subnet.client(), every_seconds=0.05)
        async with subnet.serving(first, second):
            asking = asyncio.create_task(progress.run())
            await until(lambda: None not in (progress.of(TASK, miner.hotkey) for miner in (first, second)))
            await asyncio.sleep(0.2)
            assert not is_due()
            second.status = first.status
            await until(is_due)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(scenario())
