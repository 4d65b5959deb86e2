"""OPEN -> ASSIGNED: offer the task to every miner at once, draw the pool, fix the blocks, and start the drawn ones.

The pool and the blocks are written before the first miner is told, so that a crash in between tells the same miners the same thing again;
miners answer the same start twice and begin once.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

from gradients.axon.client import AxonClient, Peer
from gradients.axon.messages import Offer, OfferAnswer, Start, StartAnswer
from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.clock import Clock
from gradients.domain.chain import Neuron
from gradients.domain.failure import Failure
from gradients.domain.json import JsonObject
from gradients.domain.seeds import seed
from gradients.domain.submission import Submission, SubmissionState
from gradients.domain.task import Hotkey, Task, TaskState, Window
from gradients.errors import Blame, GradientsError, LedgerConflict, OutsideError
from gradients.log import get_logger
from gradients.record.terms import offer_of, start_of
from gradients.scoring.rules import rules_at
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.ledger.submissions import add_submissions
from validator.settings import CollectSettings, OfferSettings

START_TRIES = 3
START_REST_SECONDS = 1.0
LATE_SHARE = 0.1  # of the training time
FETCH_SECONDS, FETCH_BYTES_PER_SECOND = 60.0, 20e6  # that miners have for a base that only we have, before the draw
UNTAKEN = "no miner took the task"
NO_PERMIT_SECONDS = 30.0  # until it is offered again; until there is a permit, the engine does not even try

log = get_logger("offer")


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A miner that wants the task."""

    neuron: Neuron
    recipe: str


@dataclass(frozen=True, slots=True)
class OfferStage:
    """Gives a task to miners."""

    ledger: Ledger
    gateway: ChainGateway
    view: ChainView
    client: AxonClient
    clock: Clock
    settings: OfferSettings
    collect: CollectSettings

    async def run(self, claim: Claim) -> None:
        """Offer, draw and start. A task that nobody takes rests, and ends after `settings.tries` offers or when nobody starts."""
        task = claim.task
        if task.window is None:
            us = (await self.view.refresh()).by_hotkey(self.gateway.hotkey)
            if us is None or not us.validator_permit:  # all miners would refuse us
                log.info("offer_without_permit", task=task.id)
                await asyncio.to_thread(
                    self.ledger.tasks.postpone, claim.lease, seconds=NO_PERMIT_SECONDS, counts=False
                )
                return
            offer, metagraph = offer_of(task), self.view.metagraph()
            miners = [n for n in metagraph.neurons if n.axon is not None and n.hotkey != self.gateway.hotkey]
            answers = await self._ask_all(miners, offer)
            accepted = [Acceptance(neuron, answer.recipe) for neuron, answer in answers if answer.accepted]
            if any(answer.fetching for _, answer in answers) and await self._waits_for_base(task):
                log.info("offer_waits", task=task.id, accepted=len(accepted), asked=len(miners))
                rest = self.settings.retry_seconds
                await asyncio.to_thread(self.ledger.tasks.postpone, claim.lease, seconds=rest, counts=False)
                return
            if not accepted:
                await self._nobody(claim)
                return
            task = await self._draw(claim, accepted)
        started = await self._start(claim, task)
        if not started:
            await self._end(claim, "Of the miners that took the task none has started it")
            return
        window = task.blocks
        log.info("task_assigned", task=task.id, miners=started, deadline_block=window.deadline_block)
        await asyncio.to_thread(
            self.ledger.tasks.advance,
            claim.lease,
            came_from=TaskState.OPEN,
            to=TaskState.ASSIGNED,
            due_at_block=window.deadline_block + 1,
        )

    async def _waits_for_base(self, task: Task) -> bool:
        """Whether miners that fetch the base are waited for: only we have it, so whoever has the best line would be alone else."""
        if task.data.parent is None:
            return False
        size = sum(blob.size_bytes for _, blob in task.data.parent.files)
        patience = FETCH_SECONDS + size / FETCH_BYTES_PER_SECOND
        moves = await asyncio.to_thread(self.ledger.events.of_task, task.id, name="task_advanced")
        opened_at = max((each.at for each in moves if each.fields.get("to") == TaskState.OPEN), default=0.0)
        return self.clock.now() < opened_at + patience

    async def _ask_all(self, miners: Sequence[Neuron], offer: Offer) -> list[tuple[Neuron, OfferAnswer]]:
        """What miners say. Nobody waits for the silent until the end: when no answer has come for a while, the round is over.

        That is measured from the last answer and not from the beginning, so that our own slowness costs nobody the task.
        """
        answers: list[tuple[Neuron, OfferAnswer]] = []
        unheard = {neuron.uid for neuron in miners}
        now = asyncio.get_running_loop().time

        async def ask(neuron: Neuron) -> None:
            answer = await self._ask(neuron, offer)
            unheard.discard(neuron.uid)
            if answer is not None and not patience.expired():
                patience.reschedule(now() + self.settings.quiet_seconds)
            if answer is not None:
                answers.append((neuron, answer))

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as patience:
                await asyncio.gather(*(ask(neuron) for neuron in miners))
        for uid in sorted(unheard):
            log.info("offer_unanswered", task=offer.task_id, uid=uid, problem="no answer in time")
        return answers

    async def _ask(self, neuron: Neuron, offer: Offer) -> OfferAnswer | None:
        """What the miner says; None for silence and for nonsense, which only cost it this task."""
        try:
            async with asyncio.timeout(self.settings.answer_seconds):
                answer = await self.client.post(_peer(neuron), "/v1/offers", offer, answer=OfferAnswer)
        except (GradientsError, TimeoutError) as error:
            log.info("offer_unanswered", task=offer.task_id, uid=neuron.uid, problem=str(error) or "no answer in time")
            return None
        log.info("offer_answered", task=offer.task_id, uid=neuron.uid, accepted=answer.accepted, reason=answer.reason)
        return answer

    async def _nobody(self, claim: Claim) -> None:
        """Rest, or end the task. What counts are offers that were made: attempts also count steps that a crash cut off."""
        events = await asyncio.to_thread(self.ledger.events.of_task, claim.task.id)
        offers = 1 + sum(event.fields.get("problem") == UNTAKEN for event in events)
        if offers >= self.settings.tries:
            await self._end(claim, f"No miner took the task in {offers} offers")
            return
        log.warning("task_untaken", task=claim.task.id, offers=offers)
        await asyncio.to_thread(
            self.ledger.tasks.postpone,
            claim.lease,
            seconds=self.settings.retry_seconds,
            problem=UNTAKEN,
            counts=False,
        )

    async def _end(self, claim: Claim, reason: str) -> None:
        """Nobody works on the task: its customer learns it now and not at the deadline."""
        failure = Failure(Blame.OUTSIDE, "no_miners", f"{reason}. Post it again later")
        log.warning("task_ended_unassigned", task=claim.task.id, reason=reason)
        await asyncio.to_thread(
            self.ledger.tasks.advance, claim.lease, came_from=TaskState.OPEN, to=TaskState.FAILED, failure=failure
        )

    async def _draw(self, claim: Claim, accepted: Sequence[Acceptance]) -> Task:
        """Fix pool and blocks in the ledger; the task as it is then."""
        block = await self.gateway.block()
        block_seconds = await self.gateway.block_seconds()
        deadline = block + math.ceil(claim.task.request.hours * 3600.0 / block_seconds)
        window = Window(
            started_at_block=block,
            deadline_block=deadline,
            reveal_until_block=deadline + math.ceil(self.collect.reveal_seconds / block_seconds),
        )
        by_hotkey = {acceptance.neuron.hotkey: acceptance for acceptance in accepted}
        rules, now = rules_at(block), self.clock.now()
        results = await asyncio.to_thread(self.ledger.placings.results, window_blocks=rules.window_blocks)
        drawing = seed(claim.salt, "draw")
        pool = rules.draw(list(by_hotkey), results=results, now=now, size=self.settings.pool_size, seed=drawing)
        invited = [
            Submission(
                task_id=claim.task.id,
                hotkey=hotkey,
                uid=by_hotkey[hotkey].neuron.uid,
                state=SubmissionState.INVITED,
                recipe=by_hotkey[hotkey].recipe,
            )
            for hotkey in pool
        ]
        draw: JsonObject = {
            "rules_version": rules.version,
            "accepted": sorted(by_hotkey),
            "tasks": sorted({result.task_id for result in results}),  # that were scored by then, within the window
            "seed": drawing,
            "now": now,
            "size": self.settings.pool_size,
            "pool": list(pool),
        }
        await asyncio.to_thread(
            self.ledger.tasks.set_window,
            claim.lease,
            window,
            draw=draw,
            also=lambda session: add_submissions(session, invited),
        )
        task = await asyncio.to_thread(self.ledger.tasks.find, claim.task.id)
        if task is None:
            raise LedgerConflict(f"Task {claim.task.id} is gone")
        return task

    async def _start(self, claim: Claim, task: Task) -> int:
        """Tell every invited miner; how many have begun."""
        submissions = await asyncio.to_thread(self.ledger.submissions.of_task, task.id)
        waiting = [s for s in submissions if s.state is SubmissionState.INVITED]
        await asyncio.gather(*(self._start_one(claim, task, submission) for submission in waiting))
        submissions = await asyncio.to_thread(self.ledger.submissions.of_task, task.id)
        return sum(s.state is SubmissionState.STARTED for s in submissions)

    async def _start_one(self, claim: Claim, task: Task, submission: Submission) -> None:
        try:
            neuron = self.view.metagraph().by_hotkey(submission.hotkey)
            if neuron is None or neuron.axon is None:
                raise LedgerConflict(f"{submission.hotkey} has left the subnet")
            answer = await self._tell(neuron, start_of(task, seed(claim.salt, "start", submission.hotkey)))
        except (GradientsError, TimeoutError) as error:
            problem = str(error) or "no answer in time"
            await self._not_started(claim, submission.hotkey, Failure(Blame.OUTSIDE, "not_started", problem))
            return
        if answer.accepted:
            us = self.view.metagraph().by_hotkey(self.gateway.hotkey)
            await asyncio.to_thread(
                self.ledger.submissions.started,
                claim.lease,
                submission.hotkey,
                axon=neuron.axon,
                our_stake_alpha=us.stake_alpha if us else None,
            )
        else:
            # With so much of the training time gone a miner has reason to decline: we were away after the draw.
            window = task.blocks
            late = self.view.block - window.started_at_block
            is_late = late > LATE_SHARE * (window.deadline_block - window.started_at_block)
            blame = Blame.OPERATOR if is_late else Blame.MINER
            failure = Failure(blame, "start_declined", answer.reason or "declined after accepting the offer")
            await self._not_started(claim, submission.hotkey, failure)

    async def _tell(self, neuron: Neuron, message: Start) -> StartAnswer:
        """The miner's answer. After silence it is told again: it may have begun, and then it says so without beginning anew."""
        for _ in range(START_TRIES - 1):
            with contextlib.suppress(OutsideError, TimeoutError):
                return await self._tell_once(neuron, message)
            await self.clock.sleep(START_REST_SECONDS)
        return await self._tell_once(neuron, message)

    async def _tell_once(self, neuron: Neuron, message: Start) -> StartAnswer:
        async with asyncio.timeout(self.settings.answer_seconds):
            return await self.client.post(_peer(neuron), "/v1/tasks", message, answer=StartAnswer)

    async def _not_started(self, claim: Claim, hotkey: Hotkey, failure: Failure) -> None:
        log.warning("miner_not_started", task=claim.task.id, hotkey=hotkey, code=failure.code, problem=failure.message)
        await asyncio.to_thread(self.ledger.submissions.failed, claim.lease, hotkey, failure)


def _peer(neuron: Neuron) -> Peer:
    if neuron.axon is None:
        raise LedgerConflict(f"uid {neuron.uid} serves no axon")
    return Peer(hotkey=neuron.hotkey, address=neuron.axon)
