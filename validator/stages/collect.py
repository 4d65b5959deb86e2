"""ASSIGNED -> COLLECTED, after the deadline block: check commitments, fetch repos by digest, screen them.

What counts is what stood on chain at the deadline block. Each claim is one look at everybody who is still missing, in turns of limited
time, so that no miner holds up another one or another task. A miner that shows nothing until the reveal ends has failed; but when nobody
at all could be reached, the network is to blame and nobody loses points, and neither when we did not look late enough in the reveal.

A miner whose address on chain has changed since it took the task (another process of its hotkey, a lost seat) is asked at both; when
neither has the submission, that is not held against it. It had to commit in time all the same, so this hides no work that was not done.

What stands on chain at the deadline block may be about a miner's other tasks. One that has nothing of this task says so, and is waited for
no longer: its status, signed as an answer to this very request, is its word about itself and this task. Before the deadline only the word
of all miners counts: then nothing can come any more, and the deadline is brought forward to now.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from gradients.axon.client import AxonClient, Peer
from gradients.axon.messages import Reveal
from gradients.bases.bases import BaseInfo, BaseModels
from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.domain.chain import AxonAddress, Commitment
from gradients.domain.commitment import Opening, ProofStep, opens
from gradients.domain.failure import Failure
from gradients.domain.seeds import seed
from gradients.domain.submission import Submission, SubmissionState
from gradients.domain.task import Hotkey, Task, TaskState
from gradients.errors import (
    Blame,
    ChainRefused,
    CommitmentMissing,
    DiskFull,
    MinerError,
    OutsideError,
    PeerRefused,
    PeerUnreachable,
    SubmissionRejected,
)
from gradients.log import get_logger
from gradients.record.terms import start_of
from gradients.repo.fetch import FetchBudget, fetch_repo
from gradients.repo.manifest import Manifest, parse_manifest
from gradients.repo.materialise import materialise
from gradients.repo.screening import screen_folder, screen_manifest
from gradients.repo.store import ContentStore
from validator.folders import Folders
from validator.given_up import failure_told, failures_told
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.settings import CollectSettings
from validator.specs.continuing import base_of

FINAL_AFTER_BLOCKS = 4  # as a rule; measuring needs the deadline block's hash, and would be refused it before
EARLY_REST_SECONDS = 30.0
STAKE_TOO_LOW = "stake_too_low"  # by which a miner's axon refuses a validator
COMMITMENT_UNKNOWN = Failure(
    Blame.OPERATOR,
    "commitment_unknown",
    "The validator came when its node had forgotten the deadline block, and the miner had committed to something newer",
)

log = get_logger("collect")


class CommitmentsAtDeadline(NamedTuple):
    """What stood on chain at a deadline block."""

    commitments: Mapping[Hotkey, Commitment]
    unknown: frozenset[Hotkey]  # of whom nobody can tell any more


class Look(NamedTuple):
    """What stood in the way of some."""

    without_room: frozenset[Hotkey] = frozenset()  # on our disk
    refusing: frozenset[Hotkey] = frozenset()  # who say that our stake is too low


@dataclass(frozen=True, slots=True)
class CollectStage:
    """Fetches every submission of a task, or finds out whose fault it is that there is none."""

    ledger: Ledger
    gateway: ChainGateway
    view: ChainView
    client: AxonClient
    bases: BaseModels
    store: ContentStore
    folders: Folders
    settings: CollectSettings

    async def run(self, claim: Claim) -> None:
        """Look once; then move the task on when all submissions are here or have failed, or the reveal has ended, and else rest."""
        task, now_block, look = claim.task, self.view.block, Look()
        if now_block <= task.blocks.deadline_block:
            await self._look_early(claim, now_block)
            return
        if waiting := await self._waiting(task):
            base = await asyncio.to_thread(base_of, task, self.bases, self.folders)
            look = await self._collect(claim, waiting, await self._commitments(task), base)
        # A look that our disk has cut short is none, and neither is one without a permit, for which miners answer nobody: it may
        # neither cost a miner nor count as the network's.
        us = self.view.metagraph().by_hotkey(self.gateway.hotkey)
        has_permit = us is not None and us.validator_permit
        full_look = now_block <= task.blocks.reveal_until_block and has_permit and not look.without_room
        looked_at_block = now_block if full_look else claim.looked_at_block
        if still := await self._waiting(task):
            if self.view.block <= task.blocks.reveal_until_block:  # leave the stage to other tasks for a while
                await asyncio.to_thread(
                    self.ledger.tasks.postpone,
                    claim.lease,
                    seconds=self.settings.retry_seconds,
                    counts=False,
                    looked_at_block=looked_at_block,
                )
                return
            await self._nothing_came(claim, still, looked_at_block, look.refusing)
        await asyncio.to_thread(
            self.ledger.tasks.advance,
            claim.lease,
            came_from=TaskState.ASSIGNED,
            to=TaskState.COLLECTED,
            due_at_block=task.blocks.deadline_block + FINAL_AFTER_BLOCKS,
        )

    async def _look_early(self, claim: Claim, block: int) -> None:
        """Woken because all miners seem to have failed. When each says so itself, the time is over with this block; else the task rests."""
        task, waiting = claim.task, await self._waiting(claim.task)
        told = await failures_told(self.client, self.view.metagraph(), waiting)
        if None in told:
            rest = EARLY_REST_SECONDS
            await asyncio.to_thread(self.ledger.tasks.postpone, claim.lease, seconds=rest, counts=False)
            return
        for submission, failure in zip(waiting, told, strict=True):
            if failure is not None:
                await self._fail(claim, submission, Failure.of(failure))
        log.info("task_given_up", task=task.id, block=block, deadline_block=task.blocks.deadline_block)
        await asyncio.to_thread(
            self.ledger.tasks.advance,
            claim.lease,
            came_from=TaskState.ASSIGNED,
            to=TaskState.COLLECTED,
            window=replace(task.blocks, deadline_block=block, reveal_until_block=block),
            due_at_block=block + FINAL_AFTER_BLOCKS,
        )

    async def _commitments(self, task: Task) -> CommitmentsAtDeadline:
        """What stood on chain at the deadline block. On a node that has forgotten it: what stands there now, where that is old enough."""
        deadline = task.blocks.deadline_block
        try:
            return CommitmentsAtDeadline(await self.gateway.commitments(block=deadline), frozenset())
        except ChainRefused as error:
            log.warning("deadline_block_pruned", task=task.id, block=deadline, problem=str(error))
            now = await self.gateway.commitments()
            old = {hotkey: commitment for hotkey, commitment in now.items() if commitment.block <= deadline}
            return CommitmentsAtDeadline(old, frozenset(now.keys() - old.keys()))

    async def _waiting(self, task: Task) -> list[Submission]:
        submissions = await asyncio.to_thread(self.ledger.submissions.of_task, task.id)
        return [s for s in submissions if s.state is SubmissionState.STARTED]

    async def _collect(
        self, claim: Claim, waiting: Sequence[Submission], found: CommitmentsAtDeadline, base: BaseInfo
    ) -> Look:
        """One try for each.

        A miner's own error ends its submission; anything outside, and a disk that cannot take this one, is tried again until the reveal
        ends. Another failure of our own ends all of them before it is raised, so that the next try finds nobody at work.
        """
        gate, without_room, refusing = asyncio.Semaphore(self.settings.concurrent), set[Hotkey](), set[Hotkey]()
        began_at = await asyncio.to_thread(self.ledger.submissions.started_at, claim.task.id)

        async def collect_one(submission: Submission) -> None:
            if submission.hotkey in found.unknown:
                await self._fail(claim, submission, COMMITMENT_UNKNOWN)
                return
            async with gate:
                try:
                    commitment = found.commitments.get(submission.hotkey)
                    await self._fetch_anywhere(claim, submission, commitment, base, began_at.get(submission.hotkey))
                except MinerError as error:
                    await self._fail(claim, submission, Failure.of(error))
                except OutsideError as error:
                    if error.code == STAKE_TOO_LOW:
                        refusing.add(submission.hotkey)
                    log.info("submission_unreached", task=claim.task.id, uid=submission.uid, problem=str(error))
                except DiskFull as error:  # another one may be small enough
                    without_room.add(submission.hotkey)
                    log.warning("submission_without_room", task=claim.task.id, uid=submission.uid, problem=str(error))

        try:
            async with asyncio.TaskGroup() as group:
                for submission in waiting:
                    group.create_task(collect_one(submission))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return Look(frozenset(without_room), frozenset(refusing))

    async def _fetch_anywhere(
        self,
        claim: Claim,
        submission: Submission,
        commitment: Commitment | None,
        base: BaseInfo,
        began_at: AxonAddress | None,
    ) -> None:
        """Fetch from the address on chain, or from where the miner was when it took the task; whoever answers has signed with its hotkey.

        Raises what the last of them came to.
        """
        if commitment is None:
            raise CommitmentMissing(
                f"Nothing stood on chain for {submission.hotkey} at block {claim.task.blocks.deadline_block}",
                fix="Commit before the deadline block",
            )
        neuron = self.view.metagraph().by_hotkey(submission.hotkey)
        addresses = list(dict.fromkeys(each for each in (neuron.axon if neuron else None, began_at) if each))
        if not addresses:
            raise PeerUnreachable(f"{submission.hotkey} serves no axon now")
        for address in addresses[:-1]:
            try:
                await self._fetch(claim, submission, commitment, base, address)
            except (MinerError, OutsideError) as error:
                log.info(
                    "axon_changed", task=claim.task.id, uid=submission.uid, asked=address.url(), problem=str(error)
                )
            else:
                return
        await self._fetch(claim, submission, commitment, base, addresses[-1])

    async def _fetch(
        self, claim: Claim, submission: Submission, commitment: Commitment, base: BaseInfo, address: AxonAddress
    ) -> None:
        """Reveal, check, fetch, screen; raises MinerError with the reason when any of it is wrong."""
        task, peer = claim.task, Peer(hotkey=submission.hotkey, address=address)
        path = f"/v1/tasks/{task.id}/submission"
        try:
            reveal, signed = await self.client.get_signed(peer, path, answer=Reveal)
        except PeerRefused:  # nobody has to sign a refusal
            if (failure := await failure_told(self.client, peer, task.id)) is not None:
                raise failure from None
            raise
        manifest = self._checked_manifest(claim, submission, commitment, reveal)
        screen_manifest(manifest, base)
        turn = FetchBudget(self.settings.turn_seconds, bytes_per_second=math.inf)
        await fetch_repo(_Remote(self.client, peer, task.id), manifest, self.store, budget=turn)
        folder = self.folders.submission(task.id, submission.hotkey)
        await asyncio.to_thread(materialise, self.store, manifest, folder)
        await asyncio.to_thread(screen_folder, folder, manifest, base)
        await asyncio.to_thread(
            self.ledger.submissions.collected,
            claim.lease,
            submission.hotkey,
            manifest=reveal.manifest,
            manifest_sha256=_sha256(reveal.manifest),
            committed_at_block=commitment.block,
            committed_extrinsic=commitment.extrinsic_index,
            reveal={"payload": commitment.payload.hex(), **asdict(signed)},
        )
        log.info("submission_collected", task=task.id, uid=submission.uid)

    def _checked_manifest(
        self, claim: Claim, submission: Submission, commitment: Commitment, reveal: Reveal
    ) -> Manifest:
        """The revealed manifest, proven to be the committed one and to be about this task, miner, base and terms."""
        task = claim.task
        opening = Opening(
            netuid=self.gateway.netuid,
            task_id=task.id,
            hotkey=submission.hotkey,
            manifest_sha256=_sha256(reveal.manifest),
            salt=reveal.salt,
        )
        proof = [ProofStep(step.height, step.sibling) for step in reveal.proof]
        if not opens(commitment.payload, opening, proof):
            raise CommitmentMissing(
                "The revealed manifest is not in the commitment that stood on chain at the deadline"
            )
        manifest = parse_manifest(reveal.manifest)
        expected = (task.id, submission.hotkey, task.data.base_digest)
        if (manifest.task_id, manifest.hotkey, manifest.base_digest) != expected:
            raise SubmissionRejected("The manifest is about another task, miner or base", code="manifest_mismatch")
        terms = start_of(task, seed(claim.salt, "start", submission.hotkey))
        told = (manifest.terms_sha256 or terms.terms_sha256, reveal.start or terms)
        if told != (terms.terms_sha256, terms):  # an auditor would hold the difference against us
            raise SubmissionRejected("The manifest names other terms than we told the miner", code="terms_mismatch")
        return manifest

    async def _nothing_came(
        self, claim: Claim, still: Sequence[Submission], looked_at_block: int | None, refusing: AbstractSet[Hotkey]
    ) -> None:
        """The reveal has ended. When we stopped looking too early it is our fault; when not one miner was reached, our connection's.

        So it is ours with who refuses us for our stake, which was enough when the miner took the task and is less now.
        """
        submissions = await asyncio.to_thread(self.ledger.submissions.of_task, claim.task.id)
        window = claim.task.blocks
        failure = Failure(Blame.OUTSIDE, "not_revealed", "No miner at all could be reached before the reveal ended")
        if looked_at_block is None or 2 * looked_at_block < window.deadline_block + window.reveal_until_block:
            failure = Failure(
                Blame.OPERATOR, "not_revealed", "The validator could not look in the second half of the reveal"
            )
        elif any(_was_reached(submission) for submission in submissions):
            failure = Failure(Blame.MINER, "not_revealed", "Nothing could be fetched before the reveal ended")
        began_at = await asyncio.to_thread(self.ledger.submissions.started_at, claim.task.id)
        stakes = await asyncio.to_thread(self.ledger.submissions.started_with, claim.task.id)
        us = self.view.metagraph().by_hotkey(self.gateway.hotkey)
        for submission in still:
            stake, stake_before = us.stake_alpha if us else 0.0, stakes.get(submission.hotkey, 0.0)
            if submission.hotkey in refusing and stake < stake_before:
                await self._fail(claim, submission, _poorer(stake_before, stake))
                continue
            neuron = self.view.metagraph().by_hotkey(submission.hotkey)
            before, now = began_at.get(submission.hotkey), neuron.axon if neuron else None
            has_moved = failure.blame is Blame.MINER and before not in (None, now)
            await self._fail(claim, submission, _moved(before, now) if has_moved else failure)

    async def _fail(self, claim: Claim, submission: Submission, failure: Failure) -> None:
        log.warning(
            "submission_failed", task=claim.task.id, uid=submission.uid, code=failure.code, problem=failure.message
        )
        await asyncio.to_thread(self.ledger.submissions.failed, claim.lease, submission.hotkey, failure)


@dataclass(frozen=True, slots=True)
class _Remote:
    """A miner's repo as the fetcher reads it."""

    client: AxonClient
    peer: Peer
    task_id: str

    def read(self, name: str, offset: int) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return self.client.stream(self.peer, f"/v1/tasks/{self.task_id}/files/{name}", offset=offset)


def _poorer(before: float, now: float) -> Failure:
    """Ours: it was enough for the miner when it took the task."""
    words = f"The validator's stake was {before:,.3f} alpha at the start and {now:,.3f} at the reveal, too little for the miner"
    return Failure(Blame.OPERATOR, "stake_fell", words)


def _moved(before: AxonAddress | None, now: AxonAddress | None) -> Failure:
    """Nobody's fault: the chain says that the miner was called elsewhere than where it had taken the task."""
    places = [address.url() if address else "no address" for address in (before, now)]
    words = "The miner took the task at {}, the chain has {} now, and neither had the submission".format(*places)
    return Failure(Blame.OUTSIDE, "axon_changed", words)


def _was_reached(submission: Submission) -> bool:
    """Whether the miner answered us at all after the deadline."""
    if submission.state in (SubmissionState.COLLECTED, SubmissionState.MEASURED):
        return True
    failure = submission.failure
    return failure is not None and failure.blame is Blame.MINER and failure.code != "commitment_missing"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
