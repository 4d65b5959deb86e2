"""OPEN -> ASSIGNED, with real axons on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gradients.domain.seeds import seed
from gradients.domain.submission import Submission, SubmissionState
from gradients.domain.task import Blob, Hotkey, Parent, TaskId, TaskState, Window
from gradients.testing.clock import HandClock
from tests.unit.validator.market import (
    PREPARED,
    SALT,
    SILENT_SECONDS,
    TASK,
    StandIn,
    Subnet,
    claimed,
    failures,
    found,
    opened,
    request_for,
)
from validator.ledger import Ledger
from validator.ledger.submissions import add_submissions
from validator.settings import CollectSettings, OfferSettings
from validator.stages.offer import OfferStage


@pytest.fixture
def subnet(clock: HandClock) -> Subnet:
    return Subnet(clock)


def _stage(
    ledger: Ledger,
    subnet: Subnet,
    *,
    pool_size: int = 15,
    tries: int = 3,
    answer_seconds: float = 60.0,
    quiet_seconds: float = 60.0,
) -> OfferStage:
    return OfferStage(
        ledger=ledger,
        gateway=subnet.gateway,
        view=subnet.view,
        client=subnet.client(),
        clock=subnet.clock,
        settings=OfferSettings(
            pool_size=pool_size,
            answer_seconds=answer_seconds,
            quiet_seconds=quiet_seconds,
            retry_seconds=15.0,
            tries=tries,
        ),
        collect=CollectSettings(reveal_seconds=30.0),
    )


def _offer(
    ledger: Ledger, stage: OfferStage, subnet: Subnet, miners: Sequence[StandIn], *, permit: bool = True
) -> None:
    """Run the step once with all miners up."""

    async def scenario() -> None:
        await subnet.start(*miners, permit=permit)
        async with subnet.serving(*miners):
            await stage.run(claimed(ledger, TaskState.OPEN))
        await stage.client.close()

    asyncio.run(scenario())


def _states(ledger: Ledger) -> dict[str, SubmissionState]:
    return {s.hotkey: s.state for s in ledger.submissions.of_task(TASK)}


def test_whoever_accepts_is_started_with_the_same_terms_and_its_own_seed(ledger: Ledger, subnet: Subnet) -> None:
    opened(ledger, request_for(hours=0.01))
    miners = [StandIn("alice"), StandIn("bob"), StandIn("carol", accepts=False)]
    _offer(ledger, _stage(ledger, subnet), subnet, miners)
    alice, bob, carol = miners
    assert _states(ledger) == {alice.hotkey: SubmissionState.STARTED, bob.hotkey: SubmissionState.STARTED}
    assert (len(carol.offers), carol.starts) == (1, [])
    [of_alice], [of_bob] = alice.starts, bob.starts
    assert of_alice.seed == seed(SALT, "start", alice.hotkey) != of_bob.seed
    assert of_alice.model_copy(update={"seed": 0}) == of_bob.model_copy(update={"seed": 0})
    assert (of_alice.train.sha256, of_alice.held_out_commitment) == (
        PREPARED.train.sha256,
        PREPARED.held_out_commitment,
    )
    assert PREPARED.held_out.sha256 not in of_alice.model_dump_json()


@pytest.mark.parametrize(("kind", "needs"), [("python_tests", True), ("exact_answer", False)])
def test_an_offer_says_whether_the_task_runs_programs(ledger: Ledger, subnet: Subnet, kind: str, needs: bool) -> None:
    opened(ledger, replace(request_for(), type="grpo", parameters={"rewards": [{"kind": kind}]}))
    miner = StandIn("alice")
    _offer(ledger, _stage(ledger, subnet), subnet, [miner])
    assert [offer.needs_sandbox for offer in miner.offers] == [needs]
    assert [start.offer.needs_sandbox for start in miner.starts] == [needs]


def test_the_blocks_follow_from_hours_and_reveal(ledger: Ledger, subnet: Subnet) -> None:
    opened(ledger, request_for(hours=0.01))
    _offer(ledger, _stage(ledger, subnet), subnet, [StandIn("alice")])
    window = found(ledger).blocks
    start = window.started_at_block
    assert window == Window(start, start + 36, start + 36 + 30)  # 0.01 h are 36 blocks of 1 s, the reveal 30
    assert found(ledger).state is TaskState.ASSIGNED
    assert ledger.tasks.claim([TaskState.ASSIGNED], owner="o", block=start + 36, lease_seconds=1) is None
    claimed(ledger, TaskState.ASSIGNED, block=start + 37)


def test_silence_nonsense_and_missing_axons_cost_only_the_offer(ledger: Ledger, subnet: Subnet) -> None:
    opened(ledger)
    silent, good, gone = StandIn("silent", silent_seconds=SILENT_SECONDS), StandIn("good"), StandIn("gone")

    async def scenario() -> None:
        await subnet.start(silent, good, gone)
        async with subnet.serving(gone):
            pass  # its address stays on chain
        async with subnet.serving(silent, good):
            await _stage(ledger, subnet, quiet_seconds=0.5).run(claimed(ledger, TaskState.OPEN))

    asyncio.run(scenario())
    assert _states(ledger) == {good.hotkey: SubmissionState.STARTED}


def test_a_round_in_which_nobody_ever_answers_has_an_end(ledger: Ledger, subnet: Subnet) -> None:
    opened(ledger)
    silent = StandIn("silent", silent_seconds=SILENT_SECONDS)
    _offer(ledger, _stage(ledger, subnet, answer_seconds=0.5), subnet, [silent])
    assert (_states(ledger), found(ledger).state) == ({}, TaskState.OPEN)


def test_the_pool_is_drawn_by_the_tasks_salt(ledger: Ledger, subnet: Subnet) -> None:
    opened(ledger)
    miners = [StandIn(f"miner{number}") for number in range(5)]
    _offer(ledger, _stage(ledger, subnet, pool_size=2), subnet, miners)
    assert len(_states(ledger)) == 2
    assert sum(len(miner.starts) for miner in miners) == 2
    assert all(len(miner.offers) == 1 for miner in miners)


def test_who_declines_after_accepting_has_failed_by_its_own_fault(ledger: Ledger, subnet: Subnet) -> None:
    opened(ledger)
    fickle, good = StandIn("fickle", begins=False), StandIn("good")
    _offer(ledger, _stage(ledger, subnet), subnet, [fickle, good])
    assert failures(ledger) == {fickle.hotkey: ("miner", "start_declined")}
    assert found(ledger).state is TaskState.ASSIGNED


@pytest.mark.parametrize(("late_blocks", "blame"), [(4, "miner"), (5, "operator")])
def test_who_declines_a_start_that_comes_late_has_not_failed_by_its_own_fault(
    ledger: Ledger, subnet: Subnet, late_blocks: int, blame: str
) -> None:
    """The validator was away after the draw; more than a tenth of the 45 blocks of training is gone from the fifth on."""
    opened(ledger)
    fickle = StandIn("fickle", begins=False)
    window = Window(10, 55, 80)
    invited = [Submission(TASK, fickle.hotkey, 2, SubmissionState.INVITED)]
    lease = claimed(ledger, TaskState.OPEN).lease
    ledger.tasks.set_window(lease, window, draw={}, also=lambda session: add_submissions(session, invited))

    async def scenario() -> None:
        await subnet.start(fickle)
        async with subnet.serving(fickle):
            await subnet.reach(window.started_at_block + late_blocks)
            ledger.tasks.postpone(lease, seconds=0)
            await _stage(ledger, subnet).run(claimed(ledger, TaskState.OPEN))

    asyncio.run(scenario())
    assert failures(ledger) == {fickle.hotkey: (blame, "start_declined")}


def test_a_round_does_not_wait_for_the_silent_once_the_others_have_answered(ledger: Ledger, subnet: Subnet) -> None:
    opened(ledger)
    quick, silent = StandIn("quick"), StandIn("silent", silent_seconds=SILENT_SECONDS)
    stage = _stage(ledger, subnet, quiet_seconds=0.2)

    async def scenario() -> None:
        await subnet.start(quick, silent)
        async with subnet.serving(quick, silent), asyncio.timeout(50):
            await stage.run(claimed(ledger, TaskState.OPEN))

    asyncio.run(scenario())
    assert _states(ledger) == {quick.hotkey: SubmissionState.STARTED}
    assert len(silent.offers) == 1


def test_a_round_in_which_nobody_has_answered_yet_waits(ledger: Ledger, subnet: Subnet) -> None:
    opened(ledger)
    slow = StandIn("slow", silent_seconds=0.5)
    _offer(ledger, _stage(ledger, subnet, quiet_seconds=0.05), subnet, [slow])
    assert _states(ledger) == {slow.hotkey: SubmissionState.STARTED}


def test_a_start_whose_answer_is_lost_is_told_again(ledger: Ledger, subnet: Subnet) -> None:
    opened(ledger)
    slow = StandIn("slow", lost_starts=2)
    _offer(ledger, _stage(ledger, subnet), subnet, [slow])
    assert _states(ledger) == {slow.hotkey: SubmissionState.STARTED}
    first, second, third = slow.starts
    assert first == second == third


def test_a_start_that_is_never_answered_is_told_three_times_and_is_not_the_miners_fault(
    ledger: Ledger, subnet: Subnet
) -> None:
    """Pool and window stand already, so no offer has to be answered within the short time."""
    opened(ledger)
    mute = StandIn("mute", is_mute=True)
    lease = claimed(ledger, TaskState.OPEN).lease
    invited = [Submission(TASK, mute.hotkey, 1, SubmissionState.INVITED)]
    ledger.tasks.set_window(lease, Window(5, 50, 80), draw={}, also=lambda session: add_submissions(session, invited))
    ledger.tasks.postpone(lease, seconds=0)
    _offer(ledger, _stage(ledger, subnet, answer_seconds=0.5), subnet, [mute])
    assert failures(ledger) == {mute.hotkey: ("outside", "not_started")}
    assert found(ledger).state is TaskState.FAILED


def test_a_task_that_nobody_starts_ends_at_once_and_not_at_its_deadline(ledger: Ledger, subnet: Subnet) -> None:
    opened(ledger)
    _offer(ledger, _stage(ledger, subnet), subnet, [StandIn("fickle", begins=False)])
    task = found(ledger)
    assert task.state is TaskState.FAILED
    assert task.failure is not None
    assert (task.failure.blame.value, task.failure.code) == ("outside", "no_miners")


def test_miners_that_fetch_a_base_that_only_we_have_are_waited_for(
    ledger: Ledger, subnet: Subnet, clock: HandClock
) -> None:
    """60 s, and one for each 20 MB of the base: 40 MB give 62 s, and offers come every 15 s."""
    files = (("model.safetensors", Blob("f" * 64, 40_000_000)),)
    parent = Parent(TaskId("chat-00000000000a"), Hotkey("5Alice"), "a" * 64, "c" * 64, files)
    opened(ledger, prepared=replace(PREPARED, parent=parent))
    quick, slow, never = StandIn("quick"), StandIn("slow", fetches=2), StandIn("never", fetches=100)
    stage = _stage(ledger, subnet, tries=2)

    async def scenario() -> None:
        await subnet.start(quick, slow, never)
        async with subnet.serving(quick, slow, never):
            for _ in range(5):  # after 0, 15, 30, 45 and 60 s
                await stage.run(claimed(ledger, TaskState.OPEN))
                assert _states(ledger) == {}
                clock.time += 15
            await stage.run(claimed(ledger, TaskState.OPEN))

    asyncio.run(scenario())
    started = SubmissionState.STARTED
    assert _states(ledger) == {quick.hotkey: started, slow.hotkey: started}


def test_nobody_is_waited_for_whose_base_others_have(ledger: Ledger, subnet: Subnet) -> None:
    opened(ledger)
    quick = StandIn("quick")
    _offer(ledger, _stage(ledger, subnet), subnet, [quick, StandIn("slow", fetches=100)])
    assert _states(ledger) == {quick.hotkey: SubmissionState.STARTED}


def test_a_task_that_nobody_takes_rests_and_ends_after_its_tries(
    ledger: Ledger, subnet: Subnet, clock: HandClock
) -> None:
    opened(ledger)
    busy = StandIn("busy", accepts=False)
    stage = _stage(ledger, subnet, tries=3)

    async def scenario() -> None:
        await subnet.start(busy)
        async with subnet.serving(busy):
            for _ in range(3):
                assert found(ledger).state is TaskState.OPEN
                await stage.run(claimed(ledger, TaskState.OPEN))
                assert ledger.tasks.claim([TaskState.OPEN], owner="o", block=0, lease_seconds=1) is None
                clock.time += 15

    asyncio.run(scenario())
    assert len(busy.offers) == 3
    assert found(ledger).state is TaskState.FAILED
    assert "3 offers" in str(found(ledger).failure)


def test_steps_that_a_crash_cut_off_are_no_offers(ledger: Ledger, subnet: Subnet, clock: HandClock) -> None:
    opened(ledger)
    for _ in range(5):
        claimed(ledger, TaskState.OPEN)
        clock.time += 15  # the validator is gone, and its lease runs out
    _offer(ledger, _stage(ledger, subnet, tries=3), subnet, [StandIn("busy", accepts=False)])
    assert found(ledger).state is TaskState.OPEN


def test_without_a_permit_nobody_is_asked_and_no_try_is_used_up(
    ledger: Ledger, subnet: Subnet, clock: HandClock
) -> None:
    opened(ledger)
    miner = StandIn("alice")
    _offer(ledger, _stage(ledger, subnet), subnet, [miner], permit=False)
    clock.time += 60
    assert miner.offers == []
    assert claimed(ledger, TaskState.OPEN).attempts == 1


def test_where_a_miner_took_the_task_is_kept(ledger: Ledger, subnet: Subnet) -> None:
    opened(ledger)
    alice, fickle = StandIn("alice"), StandIn("fickle", begins=False)
    _offer(ledger, _stage(ledger, subnet), subnet, [alice, fickle])
    neuron = subnet.view.metagraph().by_hotkey(alice.hotkey)
    assert neuron is not None
    assert neuron.axon is not None
    assert ledger.submissions.started_at(TASK) == {alice.hotkey: neuron.axon}
    assert ledger.submissions.started_with(TASK) == {alice.hotkey: 1000.0}  # which `subnet` gives us


def test_a_crash_after_the_draw_starts_the_same_miners_again_and_asks_nobody_anew(
    ledger: Ledger, subnet: Subnet
) -> None:
    """The window and the pool are in the ledger before the first miner is told; who has answered is not told twice."""
    opened(ledger)
    told, untold, other = StandIn("told"), StandIn("untold"), StandIn("other")
    lease = claimed(ledger, TaskState.OPEN).lease
    window = Window(5, 50, 80)
    invited = [Submission(TASK, m.hotkey, uid, SubmissionState.INVITED) for uid, m in enumerate((told, untold), 1)]
    ledger.tasks.set_window(lease, window, draw={}, also=lambda session: add_submissions(session, invited))
    ledger.submissions.started(lease, told.hotkey)
    ledger.tasks.postpone(lease, seconds=0)
    _offer(ledger, _stage(ledger, subnet), subnet, [told, untold, other])
    assert found(ledger).blocks == window
    assert [len(m.offers) for m in (told, untold, other)] == [0, 0, 0]
    assert [len(m.starts) for m in (told, untold, other)] == [0, 1, 0]
    assert set(_states(ledger).values()) == {SubmissionState.STARTED}
