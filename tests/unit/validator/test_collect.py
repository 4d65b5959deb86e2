"""ASSIGNED -> COLLECTED, with real axons on loopback and commitments on a chain in memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session

from gradients.axon.evidence import SignedAnswer
from gradients.axon.messages import AttemptStatus, Reveal
from gradients.axon.serve import serving
from gradients.bases.bases import BaseModels
from gradients.domain.chain import AxonAddress
from gradients.domain.commitment import Opening, ProofStep, opens
from gradients.domain.seeds import seed
from gradients.domain.submission import SubmissionState
from gradients.domain.task import Hotkey, TaskId, TaskState, Window
from gradients.errors import ChainUnreachable, DiskFull
from gradients.record.terms import start_of
from gradients.repo.store import ContentStore
from gradients.testing.clock import HandClock
from tests.unit.validator.market import (
    HOST,
    PREPARED,
    SALT,
    TASK,
    WINDOW,
    StandIn,
    Subnet,
    assigned,
    claimed,
    failures,
    found,
    request_for,
    tiny_bases,
    until,
)
from validator.engine import StepEngine
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.rows import SubmissionRow
from validator.settings import CollectSettings
from validator.stages.collect import EARLY_REST_SECONDS, CollectStage

FIRST_BLOCK = WINDOW.deadline_block + 1
STAKE_ALPHA = 1000.0  # of the validator at the start
EARLY_BLOCK = WINDOW.started_at_block + 2
LATE_BLOCK = WINDOW.reveal_until_block - 2
LAST_BLOCK = WINDOW.reveal_until_block + 1
RETRY_SECONDS = 3.0
TURN_SECONDS, LONG_SECONDS = 1.0, 60.0
OTHER = TaskId("instruct-ba9876543210")


class Market:
    """A task whose deadline has passed, its miners and the step that collects from them."""

    def __init__(self, ledger: Ledger, clock: HandClock, folder: Path) -> None:
        self.ledger, self.clock, self.folder = ledger, clock, folder
        self.subnet = Subnet(clock)
        self.bases: BaseModels = tiny_bases(folder)
        self.base_digest = self.bases.resolve("tiny").digest
        self.store = ContentStore(folder / "blobs")
        self.turn_seconds = LONG_SECONDS

    def stage(self) -> CollectStage:
        return CollectStage(
            ledger=self.ledger,
            gateway=self.subnet.gateway,
            view=self.subnet.view,
            client=self.subnet.client(),
            bases=self.bases,
            store=self.store,
            folders=Folders(self.folder),
            settings=CollectSettings(retry_seconds=RETRY_SECONDS, turn_seconds=self.turn_seconds),
        )

    async def begin(
        self, miners: Sequence[StandIn], *, axons: Mapping[str, AxonAddress] = MappingProxyType({})
    ) -> None:
        """Everybody has started, some at known addresses, and nobody has committed; blocks stand at the start."""
        assigned(
            self.ledger,
            [m.hotkey for m in miners],
            request_for(),
            prepared=replace(PREPARED, base_digest=self.base_digest),
            axons=axons,
            our_stake_alpha=STAKE_ALPHA,
        )
        await self.subnet.start(*miners)
        await self.subnet.reach(WINDOW.started_at_block)

    async def submit(self, miner: StandIn, *, base_digest: str | None = None) -> None:
        await miner.submit(self.subnet, self.folder / "repos", base_digest=base_digest or self.base_digest)

    async def collect(self, serving: Sequence[StandIn], *, at_blocks: Sequence[int] = (FIRST_BLOCK,)) -> None:
        """A look at each of these blocks."""
        async with self.subnet.serving(*serving):
            for block in at_blocks:
                await self.subnet.reach(block)
                await self.step()
                self.clock.time += RETRY_SECONDS

    async def step(self) -> None:
        claim = claimed(self.ledger, TaskState.ASSIGNED)
        self.lease = claim.lease
        await self.stage().run(claim)

    def states(self) -> dict[str, SubmissionState]:
        return {s.hotkey: s.state for s in self.ledger.submissions.of_task(TASK)}


@pytest.fixture
def market(ledger: Ledger, clock: HandClock, tmp_path: Path) -> Market:
    return Market(ledger, clock, tmp_path)


def test_a_committed_repo_is_fetched_and_its_commitment_kept(market: Market) -> None:
    alice = StandIn("alice")

    async def scenario() -> None:
        await market.begin([alice])
        await market.submit(alice)
        await market.collect([alice])

    asyncio.run(scenario())
    [submission] = market.ledger.submissions.of_task(TASK)
    assert (submission.state, submission.failure) == (SubmissionState.COLLECTED, None)
    assert submission.committed_at_block is not None
    assert WINDOW.started_at_block < submission.committed_at_block <= WINDOW.deadline_block
    assert found(market.ledger).state is TaskState.COLLECTED
    final_block = WINDOW.deadline_block + 4  # before, the chain may still swap the block whose hash seeds measuring
    assert market.ledger.tasks.claim([TaskState.COLLECTED], owner="o", block=final_block - 1, lease_seconds=1) is None
    claimed(market.ledger, TaskState.COLLECTED, block=final_block)
    files = {path.name: path.read_bytes() for path in Folders(market.folder).submission(TASK, alice.hotkey).iterdir()}
    assert files == {name: path.read_bytes() for name, path in alice.files.items()}


def test_what_proves_the_commitment_is_kept_and_can_be_checked_by_others(market: Market) -> None:
    """The slot on chain is overwritten by the next commitment; the payload, the opening and the miner's signature are not."""
    alice, validator = StandIn("alice"), market.subnet.gateway.hotkey

    async def scenario() -> None:
        await market.begin([alice])
        await market.submit(alice)
        await market.collect([alice])

    asyncio.run(scenario())
    with Session(market.ledger.engine) as session:
        kept = session.get_one(SubmissionRow, (TASK, alice.hotkey)).reveal
    assert kept is not None
    payload = bytes.fromhex(kept.pop("payload"))
    signed = SignedAnswer(**kept)
    assert signed.is_from(alice.hotkey, to=validator)
    assert not signed.is_from(validator, to=validator)
    assert not signed.is_from(alice.hotkey, to=alice.hotkey)
    assert not replace(signed, body=signed.body.replace("5", "6", 1)).is_from(alice.hotkey, to=validator)
    reveal = Reveal.model_validate_json(signed.body)
    manifest_sha256 = hashlib.sha256(reveal.manifest.encode()).hexdigest()
    opening = Opening(market.subnet.gateway.netuid, TASK, alice.hotkey, manifest_sha256, reveal.salt)
    assert opens(payload, opening, [ProofStep(step.height, step.sibling) for step in reveal.proof])


def test_a_manifest_names_the_terms_that_the_miner_was_told_or_none(market: Market) -> None:
    """A miner that commits to other terms would let an auditor accuse the validator of having changed them."""
    told, other = StandIn("told"), StandIn("other")

    async def scenario() -> None:
        await market.begin([told, other])
        task = found(market.ledger)
        told.starts = [start_of(task, seed(SALT, "start", told.hotkey))]
        other.starts = [start_of(task, seed(SALT, "start", told.hotkey))]
        await market.submit(told)
        await market.submit(other)
        await market.collect([told, other])

    asyncio.run(scenario())
    assert market.states()[told.hotkey] is SubmissionState.COLLECTED
    assert failures(market.ledger) == {other.hotkey: ("miner", "terms_mismatch")}


def test_each_miner_is_judged_by_itself(market: Market) -> None:
    """One in time, one without a commitment, one about another base, one whose files are not the announced ones."""
    good, silent, liar, forger = (StandIn(name) for name in ("good", "silent", "liar", "forger"))

    async def scenario() -> None:
        await market.begin([good, silent, liar, forger])
        await market.submit(good)
        await market.submit(liar, base_digest="0" * 64)
        await market.submit(forger)
        forged = forger.files["adapter_model.safetensors"]
        forged.write_bytes(forged.read_bytes()[:-1] + b"\xff")
        await market.collect([good, silent, liar, forger])

    asyncio.run(scenario())
    assert market.states()[good.hotkey] is SubmissionState.COLLECTED
    assert failures(market.ledger) == {
        silent.hotkey: ("miner", "commitment_missing"),
        liar.hotkey: ("miner", "manifest_mismatch"),
        forger.hotkey: ("miner", "content_mismatch"),
    }


def test_a_commitment_after_the_deadline_block_does_not_count(market: Market) -> None:
    late = StandIn("late")

    async def scenario() -> None:
        await market.begin([late])
        await market.subnet.reach(WINDOW.deadline_block)
        await market.submit(late)  # its transaction makes the block after the deadline
        await market.collect([late])

    asyncio.run(scenario())
    assert failures(market.ledger) == {late.hotkey: ("miner", "commitment_missing")}


def test_a_copied_commitment_is_worth_nothing(market: Market) -> None:
    alice, thief = StandIn("alice"), StandIn("thief")

    async def scenario() -> None:
        await market.begin([alice, thief])
        await market.submit(alice)
        [committed] = market.subnet.chain.committed
        await market.subnet.chain.gateway(thief.hotkey).commit(committed.payload)
        thief.reveal, thief.files = alice.reveal, alice.files
        await market.collect([alice, thief])

    asyncio.run(scenario())
    assert market.states()[alice.hotkey] is SubmissionState.COLLECTED
    assert failures(market.ledger) == {thief.hotkey: ("miner", "commitment_missing")}


def test_who_shows_nothing_until_the_reveal_ends_has_failed(market: Market) -> None:
    good, gone = StandIn("good"), StandIn("gone")

    async def scenario() -> None:
        await market.begin([good, gone])
        await market.submit(good)
        await market.submit(gone)
        await market.collect([good], at_blocks=(FIRST_BLOCK, LATE_BLOCK))
        assert found(market.ledger).state is TaskState.ASSIGNED
        await market.collect([good], at_blocks=(LAST_BLOCK,))

    asyncio.run(scenario())
    assert found(market.ledger).state is TaskState.COLLECTED
    assert sorted(good.served) == sorted(good.files)  # once
    assert market.states()[good.hotkey] is SubmissionState.COLLECTED
    assert failures(market.ledger) == {gone.hotkey: ("miner", "not_revealed")}


@pytest.mark.parametrize(
    ("stake_alpha", "wants_alpha", "whose"),
    [
        (900.0, 1000.0, ("operator", "stake_fell")),
        (1000.0, 1001.0, ("miner", "not_revealed")),  # it wants more than when it took the task
        (900.0, 0.0, None),
    ],
)
def test_a_miner_for_which_our_stake_has_become_too_low_loses_nothing_by_it(
    market: Market, stake_alpha: float, wants_alpha: float, whose: tuple[str, str] | None
) -> None:
    """Another one, which asks for less, was reached: our connection is not the culprit."""
    good, choosy = StandIn("good"), StandIn("choosy", validators_only=True, min_stake_alpha=wants_alpha)

    async def scenario() -> None:
        await market.begin([good, choosy])
        await market.submit(good)
        await market.submit(choosy)
        us = market.subnet.chain.graph.by_hotkey(market.subnet.gateway.hotkey)
        assert us is not None
        market.subnet.chain.change(replace(us, stake_alpha=stake_alpha))
        await market.collect([good, choosy], at_blocks=(FIRST_BLOCK,) if whose is None else (LATE_BLOCK, LAST_BLOCK))

    asyncio.run(scenario())
    assert failures(market.ledger) == ({choosy.hotkey: whose} if whose else {})
    assert market.states()[good.hotkey] is SubmissionState.COLLECTED


def failed(task_id: str = TASK) -> AttemptStatus:
    """A miner's word that it has nothing of a task."""
    return AttemptStatus(task_id=task_id, phase="failed", recipe="lora", fraction=0.3, problem="out of memory")


def test_who_says_that_its_training_failed_is_waited_for_no_longer(market: Market) -> None:
    """What it committed to is another task's; the slot on chain cannot tell."""
    good, broken = StandIn("good"), StandIn("broken")

    async def scenario() -> None:
        await market.begin([good, broken])
        await market.submit(good)
        await market.submit(broken)
        broken.reveal, broken.status = None, failed()
        await market.collect([good, broken])

    asyncio.run(scenario())
    assert found(market.ledger).state is TaskState.COLLECTED
    assert market.states()[good.hotkey] is SubmissionState.COLLECTED
    assert failures(market.ledger) == {broken.hotkey: ("miner", "training_failed")}
    [failure] = [s.failure for s in market.ledger.submissions.of_task(TASK) if s.failure]
    assert failure.message == "The miner says that its training has failed: out of memory"


def test_when_all_miners_say_that_they_have_failed_the_time_is_over(market: Market) -> None:
    miners = first, second = StandIn("first"), StandIn("second")
    first.status, second.status = failed(), failed()

    async def scenario() -> None:
        await market.begin(miners)
        market.ledger.tasks.hasten(TASK)
        await market.collect(miners, at_blocks=(EARLY_BLOCK,))

    asyncio.run(scenario())
    task = found(market.ledger)
    assert (task.state, task.failure) == (TaskState.COLLECTED, None)
    assert task.blocks == Window(WINDOW.started_at_block, EARLY_BLOCK, EARLY_BLOCK)
    assert failures(market.ledger) == dict.fromkeys((first.hotkey, second.hotkey), ("miner", "training_failed"))
    final_block = EARLY_BLOCK + 4
    assert market.ledger.tasks.claim([TaskState.COLLECTED], owner="o", block=final_block - 1, lease_seconds=1) is None
    claimed(market.ledger, TaskState.COLLECTED, block=final_block)


@pytest.mark.parametrize("other", ["training", "committed", "failed elsewhere", "silent", "gone"])
def test_while_one_miner_has_not_said_so_nobody_is_cut_off(market: Market, other: str) -> None:
    """Neither the one nor those that have failed, which may have been restarted; and who commits after all is fetched."""
    miners = broken, goes_on = StandIn("broken"), StandIn("goes on")
    broken.status = failed()
    if other in ("training", "committed"):
        said = {"task_id": TASK, "phase": other, "recipe": "lora", "fraction": 0.5}
        goes_on.status = AttemptStatus.model_validate(said)
    elif other == "failed elsewhere":
        goes_on.status = failed(OTHER)

    async def scenario() -> None:
        await market.begin(miners)
        market.ledger.tasks.hasten(TASK)
        await market.collect([broken] if other == "gone" else miners, at_blocks=(EARLY_BLOCK,))
        assert (found(market.ledger).state, found(market.ledger).blocks) == (TaskState.ASSIGNED, WINDOW)
        assert set(market.states().values()) == {SubmissionState.STARTED}
        assert market.ledger.tasks.due([TaskState.ASSIGNED], block=EARLY_BLOCK) == frozenset()  # no busy looking
        market.clock.time += EARLY_REST_SECONDS
        for miner in miners:
            await market.submit(miner)
        await market.collect(miners)

    asyncio.run(scenario())
    assert set(market.states().values()) == {SubmissionState.COLLECTED}
    assert found(market.ledger).blocks == WINDOW


def test_only_the_miners_own_word_about_this_task_ends_its_submission(market: Market) -> None:
    """One still sealed, one that speaks of another task, and a stranger at the address of a third."""
    miners = sealed, other, robbed = StandIn("sealed"), StandIn("other"), StandIn("robbed")
    stranger, heard = FastAPI(), list[str]()

    @stranger.get("/v1/tasks/{task_id}")
    async def said(task_id: str) -> AttemptStatus:
        heard.append(task_id)
        return failed(task_id)

    async def scenario() -> None:
        await market.begin(miners)
        for miner in miners:
            await market.submit(miner)
        reveals = [miner.reveal for miner in miners]
        sealed.reveal = other.reveal = None
        sealed.status = AttemptStatus(task_id=TASK, phase="committed", recipe="lora", fraction=1.0)
        other.status = failed(OTHER)
        async with serving(stranger, HOST, 0) as address, market.subnet.serving(sealed, other):
            await market.subnet.chain.gateway(robbed.hotkey).publish_axon(address)
            await market.subnet.reach(FIRST_BLOCK)
            await market.step()
        assert (heard, set(market.states().values())) == ([TASK], {SubmissionState.STARTED})
        for miner, reveal in zip(miners, reveals, strict=True):
            miner.reveal = reveal
        market.clock.time += RETRY_SECONDS
        await market.collect(miners)

    asyncio.run(scenario())
    assert set(market.states().values()) == {SubmissionState.COLLECTED}


def test_a_miner_whose_axon_another_process_took_is_asked_where_it_took_the_task(market: Market) -> None:
    """The other process has the same hotkey and nothing to show, and answers with its signature."""
    alice, stray, good = StandIn("alice"), StandIn("alice"), StandIn("good")

    async def scenario() -> None:
        async with serving(alice.app(market.subnet.view), HOST, 0) as began_at:
            await market.begin([alice, good], axons={alice.hotkey: began_at})
            await market.submit(alice)
            await market.submit(good)
            await market.collect([stray, good])

    asyncio.run(scenario())
    assert stray.asked == alice.asked == [TASK]
    assert set(market.states().values()) == {SubmissionState.COLLECTED}


def test_a_miner_whose_axon_was_taken_and_which_is_gone_loses_nothing(market: Market) -> None:
    alice, stray, good = StandIn("alice"), StandIn("alice"), StandIn("good")

    async def scenario() -> None:
        await market.begin([alice, good], axons={alice.hotkey: AxonAddress(HOST, 9)})
        await market.submit(alice)
        await market.submit(good)
        await market.collect([stray, good], at_blocks=(FIRST_BLOCK, LATE_BLOCK, LAST_BLOCK))

    asyncio.run(scenario())
    assert failures(market.ledger) == {alice.hotkey: ("outside", "axon_changed")}
    assert market.states()[good.hotkey] is SubmissionState.COLLECTED


def test_a_miner_that_moves_its_axon_has_to_have_committed_all_the_same(market: Market) -> None:
    idle, moved, good = StandIn("idle"), StandIn("idle"), StandIn("good")

    async def scenario() -> None:
        await market.begin([idle, good], axons={idle.hotkey: AxonAddress(HOST, 9)})
        await market.submit(good)
        await market.collect([moved, good])

    asyncio.run(scenario())
    assert failures(market.ledger) == {idle.hotkey: ("miner", "commitment_missing")}


def test_a_miner_that_has_lost_its_seat_is_asked_where_it_took_the_task(market: Market) -> None:
    alice = StandIn("alice")

    async def scenario() -> None:
        async with serving(alice.app(market.subnet.view), HOST, 0) as began_at:
            await market.begin([alice], axons={alice.hotkey: began_at})
            await market.submit(alice)
            neuron = market.subnet.chain.graph.by_hotkey(alice.hotkey)
            assert neuron is not None
            market.subnet.chain.change(replace(neuron, hotkey=Hotkey("a newcomer's"), axon=None))
            await market.collect([])

    asyncio.run(scenario())
    assert market.states() == {alice.hotkey: SubmissionState.COLLECTED}


@pytest.mark.parametrize("lost", ["permit", "seat"])
def test_looks_without_a_permit_are_none_since_miners_answer_nobody_without_one(market: Market, lost: str) -> None:
    here, gone = StandIn("here"), StandIn("gone")

    async def scenario() -> None:
        await market.begin([here, gone])
        await market.submit(here)
        await market.submit(gone)
        await market.collect([here])
        ours = market.subnet.chain.graph.by_hotkey(market.subnet.gateway.hotkey)
        assert ours is not None
        newcomer = replace(ours, hotkey=Hotkey("a newcomer's"))
        market.subnet.chain.change(newcomer if lost == "seat" else replace(ours, validator_permit=False))
        await market.collect([here], at_blocks=(LATE_BLOCK, LAST_BLOCK))

    asyncio.run(scenario())
    assert failures(market.ledger) == {gone.hotkey: ("operator", "not_revealed")}


def test_a_chain_that_is_silent_until_the_reveal_has_ended_costs_no_miner(market: Market) -> None:
    here, gone = StandIn("here"), StandIn("gone")

    async def scenario() -> None:
        await market.begin([here, gone])
        await market.submit(here)
        await market.submit(gone)
        await market.collect([here])
        market.subnet.chain.outage = ChainUnreachable("silent")
        with pytest.raises(ChainUnreachable):
            await market.step()
        market.ledger.tasks.postpone(market.lease, seconds=0, outage=True)  # as the engine does with an outage
        assert failures(market.ledger) == {}
        market.subnet.chain.outage = None
        await market.collect([here], at_blocks=(LAST_BLOCK,))

    asyncio.run(scenario())
    assert market.states()[here.hotkey] is SubmissionState.COLLECTED
    assert failures(market.ledger) == {gone.hotkey: ("operator", "not_revealed")}


def test_when_nobody_could_be_reached_the_network_is_to_blame(market: Market) -> None:
    miners = [StandIn("alice"), StandIn("bob")]

    async def scenario() -> None:
        await market.begin(miners)
        for miner in miners:
            await market.submit(miner)
        await market.collect([], at_blocks=(FIRST_BLOCK, LATE_BLOCK, LAST_BLOCK))

    asyncio.run(scenario())
    assert failures(market.ledger) == {miner.hotkey: ("outside", "not_revealed") for miner in miners}


def test_a_miner_without_a_commitment_does_not_show_that_the_network_works(market: Market) -> None:
    """That it committed to nothing is read from the chain: nobody was reached, so whoever did commit is not to blame."""
    idle, unreached = StandIn("idle"), StandIn("unreached")

    async def scenario() -> None:
        await market.begin([idle, unreached])
        await market.submit(unreached)
        await market.collect([], at_blocks=(FIRST_BLOCK, LATE_BLOCK, LAST_BLOCK))

    asyncio.run(scenario())
    assert failures(market.ledger) == {
        idle.hotkey: ("miner", "commitment_missing"),
        unreached.hotkey: ("outside", "not_revealed"),
    }


@pytest.mark.parametrize("looks", [(LAST_BLOCK,), (FIRST_BLOCK, LAST_BLOCK)], ids=["never", "early only"])
def test_a_validator_that_was_away_at_the_end_of_the_reveal_takes_what_it_gets_and_blames_itself(
    market: Market, looks: Sequence[int]
) -> None:
    """A miner that was restarting at the one early look has had no other chance."""
    here, gone = StandIn("here"), StandIn("gone")

    async def scenario() -> None:
        await market.begin([here, gone])
        await market.submit(here)
        await market.submit(gone)
        await market.collect([here], at_blocks=looks)

    asyncio.run(scenario())
    assert market.states()[here.hotkey] is SubmissionState.COLLECTED
    assert failures(market.ledger) == {gone.hotkey: ("operator", "not_revealed")}


def test_a_miner_that_never_shows_anything_does_not_hold_up_another_task(market: Market) -> None:
    """The other task is due within the first one's reveal, and ends before it."""
    silent, good = StandIn("silent"), StandIn("good")
    window = replace(WINDOW, deadline_block=WINDOW.deadline_block + 2, reveal_until_block=WINDOW.deadline_block + 4)

    async def scenario() -> None:
        await market.begin([silent])
        market.clock.time += 1
        prepared = replace(PREPARED, base_digest=market.base_digest)
        assigned(market.ledger, [good.hotkey], request_for(), prepared=prepared, task_id=OTHER, window=window)
        await market.subnet.chain.gateway(good.hotkey).register()
        await market.submit(silent)
        silent.reveal = None
        await good.submit(market.subnet, market.folder / "repos", base_digest=market.base_digest, task_id=OTHER)
        engine = StepEngine(market.ledger, market.subnet.view, {TaskState.ASSIGNED: market.stage()}, owner="validator")
        async with market.subnet.serving(silent, good), asyncio.TaskGroup() as group:
            following = group.create_task(market.subnet.view.follow())
            working = group.create_task(engine.run())
            await market.subnet.reach(FIRST_BLOCK)
            await until(lambda: len(silent.asked) == 1)
            await market.subnet.reach(window.deadline_block + 1)
            await until(lambda: found(market.ledger, OTHER).state is TaskState.COLLECTED)
            for task in (following, working):
                task.cancel()

    asyncio.run(scenario())
    assert found(market.ledger).state is TaskState.ASSIGNED
    assert failures(market.ledger) == failures(market.ledger, OTHER) == {}


def test_a_miner_that_sends_slowly_has_its_turn_and_goes_on_at_the_next_look(market: Market) -> None:
    slow = StandIn("slow", file_seconds=0.6 * TURN_SECONDS)  # of which it has two
    market.turn_seconds = TURN_SECONDS

    async def scenario() -> None:
        await market.begin([slow])
        await market.submit(slow)
        await market.collect([slow])
        assert market.states() == {slow.hotkey: SubmissionState.STARTED}
        market.turn_seconds = LONG_SECONDS  # on a busy machine one file alone may take more than a short turn
        await market.collect([slow])

    asyncio.run(scenario())
    assert market.states() == {slow.hotkey: SubmissionState.COLLECTED}


def test_a_commitment_that_the_node_has_forgotten_costs_the_miner_nothing(market: Market) -> None:
    """The validator comes when the state of the deadline block is gone. Two have committed since: one of them to this task only then."""
    steady, busy, late, idle = (StandIn(name) for name in ("steady", "busy", "late", "idle"))

    async def scenario() -> None:
        await market.begin([steady, busy, late, idle])
        await market.submit(steady)
        await market.submit(busy)
        await market.subnet.reach(WINDOW.deadline_block)
        await market.subnet.chain.gateway(busy.hotkey).commit(b"another task")
        await market.submit(late)
        market.subnet.chain.kept_blocks = 5
        await market.collect([steady, busy, late, idle], at_blocks=(LATE_BLOCK,))

    asyncio.run(scenario())
    assert market.states()[steady.hotkey] is SubmissionState.COLLECTED
    assert failures(market.ledger) == {
        busy.hotkey: ("operator", "commitment_unknown"),
        late.hotkey: ("operator", "commitment_unknown"),
        idle.hotkey: ("miner", "commitment_missing"),
    }


def test_a_repo_that_finds_no_room_ends_nobody_elses_collection_and_comes_when_there_is_room(market: Market) -> None:
    miners = [StandIn("alice"), StandIn("bob")]

    async def scenario() -> None:
        await market.begin(miners)
        for miner in miners:
            await market.submit(miner)
        market.store = Crowded(market.folder / "blobs", room=0)
        await market.collect(miners)
        assert set(market.states().values()) == {SubmissionState.STARTED}
        market.store = Crowded(market.folder / "blobs", room=10_000)
        await market.collect(miners)

    asyncio.run(scenario())
    assert set(market.states().values()) == {SubmissionState.COLLECTED}
    assert found(market.ledger).state is TaskState.COLLECTED


def test_a_size_that_is_only_announced_costs_nobody_else_its_place(market: Market) -> None:
    """60 MB are within what an adapter of a tiny base may have, and more than our disk has room for."""
    hostile, honest = StandIn("hostile"), StandIn("honest")

    async def scenario() -> None:
        await market.begin([hostile, honest])
        await market.submit(honest)
        repo = market.folder / "repos" / "hostile"
        repo.mkdir(parents=True)
        (repo / "adapter_config.json").write_text("{}")
        with (repo / "adapter_model.safetensors").open("wb") as file:
            file.truncate(60_000_000)
        await hostile.hand_in(market.subnet, repo, base_digest=market.base_digest, task_id=TASK)
        market.store = Crowded(market.folder / "blobs", room=10_000_000)
        await market.collect([hostile, honest], at_blocks=(FIRST_BLOCK, LATE_BLOCK, LAST_BLOCK))

    asyncio.run(scenario())
    assert market.states()[honest.hotkey] is SubmissionState.COLLECTED
    assert hostile.served == []
    assert failures(market.ledger) == {hostile.hotkey: ("operator", "not_revealed")}  # our disk costs nobody anything


def test_who_names_anothers_bytes_and_never_sends_them_has_no_submission(market: Market) -> None:
    alice, copier = StandIn("alice"), StandIn("copier")

    async def scenario() -> None:
        await market.begin([alice, copier])
        await market.submit(alice)
        await copier.hand_in(
            market.subnet, market.folder / "repos" / "alice", base_digest=market.base_digest, task_id=TASK
        )
        await market.collect([alice])
        copier.files = {}
        await market.collect([alice, copier], at_blocks=(LATE_BLOCK, LAST_BLOCK))

    asyncio.run(scenario())
    assert market.states()[alice.hotkey] is SubmissionState.COLLECTED
    assert failures(market.ledger) == {copier.hotkey: ("miner", "not_revealed")}


@dataclass(frozen=True)
class Crowded(ContentStore):
    """A store on a disk with room for so many bytes more than it holds."""

    room: int = 0

    def check_room(self, size_bytes: int) -> None:
        held = sum(file.stat().st_size for file in self.root.rglob("*") if file.is_file())
        if held + size_bytes > self.room:
            raise DiskFull(f"{size_bytes} bytes find no room")


def test_what_was_collected_before_a_crash_is_not_asked_for_again(market: Market) -> None:
    alice = StandIn("alice")

    async def scenario() -> None:
        await market.begin([alice])
        await market.submit(alice)
        lease = claimed(market.ledger, TaskState.ASSIGNED).lease
        market.ledger.submissions.collected(
            lease, alice.hotkey, manifest="{}", manifest_sha256="f" * 64, committed_at_block=12
        )
        market.ledger.tasks.postpone(lease, seconds=0)
        await market.collect([alice])

    asyncio.run(scenario())
    assert alice.served == []
    assert found(market.ledger).state is TaskState.COLLECTED
