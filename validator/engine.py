"""The step engine: claims a due task, runs its stage under a heartbeat, and decides what an error means for the task.

Steps are idempotent and end in one fenced transaction. After a crash nothing is repaired: the lease runs out and the step runs again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType
from typing import Protocol

from gradients.chain.view import ChainView
from gradients.domain.failure import Failure
from gradients.domain.task import TaskState
from gradients.errors import Blame, GradientsError, LeaseLost, OperatorError
from gradients.log import get_logger
from gradients.monitoring.tracing import span
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.loops import run_forever
from validator.metrics import STEP_FAILURES, STEP_SECONDS

LEASE_SECONDS = 15.0
POLL_SECONDS = 2.0  # only the safety net: stages wake one another, and new blocks wake them all
MAX_ATTEMPTS = 12  # steps in one state; a task that keeps killing its validator is put away
FIRST_REST_SECONDS = 1.0
LONGEST_REST_SECONDS = 60.0
# How long an outage of chain, hub or network may last. Nobody has trained yet for a draft or an open task: after a day its customer had
# better hear of it. Once miners train, the step has its use for as long as a score counts for anything: the longest window of pay.
PATIENCE_SECONDS = {TaskState.DRAFT: 86_400.0, TaskState.OPEN: 86_400.0}
LONGEST_PATIENCE_SECONDS = 7 * 86_400.0

log = get_logger("engine")


class Stage(Protocol):
    """Moves tasks out of one state."""

    async def run(self, claim: Claim) -> None:
        """Do the step, and end with `tasks.advance` or `tasks.postpone`; raising lets the engine decide."""
        ...


class StepEngine:
    """Runs every stage's loop until cancelled."""

    def __init__(
        self,
        ledger: Ledger,
        view: ChainView,
        stages: Mapping[TaskState, Stage],
        *,
        owner: str,
        lease_seconds: float = LEASE_SECONDS,
        poll_seconds: float = POLL_SECONDS,
        at_once: Mapping[TaskState, int] = MappingProxyType({}),
        one_per_customer: Collection[TaskState] = (),
        obstacles: Mapping[TaskState, Callable[[], str]] = MappingProxyType({}),
    ) -> None:
        """Args:
        at_once: how many tasks are worked on at a time, by the state that they are in; one where nothing is said.
        one_per_customer: states whose steps last as long as a customer's task makes them: of each customer one task at a time, so that
            nobody has all the places.
        obstacles: what stands against working on tasks of a state at all, at the moment; empty when nothing does.
        """
        self._obstacles = obstacles
        self._ledger = ledger
        self._view = view
        self._stages = stages
        self._owner = owner
        self._lease_seconds = lease_seconds
        self._poll_seconds = poll_seconds
        self._at_once = at_once
        self._one_per_customer = one_per_customer
        self._due = {state: asyncio.Event() for state in stages}  # that there is work, as far as anybody knows
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None  # while it runs

    def wake(self) -> None:
        """Look for work now: something has changed. Any thread may say so; an engine that does not run has nobody to wake."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Work for ever, on as many tasks at a time in each stage as it takes."""
        self._loop = asyncio.get_running_loop()

        async def wake_with_blocks() -> None:
            while True:
                await self._view.wait_for_block(self._view.block + 1)
                self._changed.set()

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(wake_with_blocks())
                group.create_task(run_forever(self._look, name="look", rest_seconds=POLL_SECONDS))
                for state, stage in self._stages.items():
                    turn = partial(self._turn, state, stage)
                    for _ in range(self._at_once.get(state, 1)):
                        group.create_task(run_forever(turn, name=f"stage-{state}", rest_seconds=POLL_SECONDS))
        finally:
            self._loop = None

    async def _look(self) -> None:
        """Wake the stages for which there is work, then wait until there may be more: one look for all, so that idling costs little."""
        self._changed.clear()
        for state in await asyncio.to_thread(self._ledger.tasks.due, list(self._stages), block=self._view.block):
            self._due[state].set()
        with contextlib.suppress(TimeoutError):
            # asyncio.wait_for of Python 3.11 may swallow a cancellation
            async with asyncio.timeout(self._poll_seconds):
                await self._changed.wait()

    async def _turn(self, state: TaskState, stage: Stage) -> None:
        """One task, once there is one."""
        due = self._due[state]
        await due.wait()
        if not due.is_set():  # another place looks already, and wakes the next one when it has found something
            return
        due.clear()  # before the look at the ledger, so that what comes during it is not lost
        if state in self._obstacles and self._obstacles[state]():
            return
        claim = await asyncio.to_thread(
            self._ledger.tasks.claim,
            [state],
            owner=self._owner,
            block=self._view.block,
            lease_seconds=self._lease_seconds,
            one_per_customer=state in self._one_per_customer,
        )
        if claim:
            due.set()
            await self._work(stage, claim)
            self._changed.set()

    async def _work(self, stage: Stage, claim: Claim) -> None:
        task = claim.task
        if claim.attempts > MAX_ATTEMPTS:  # no error has ended the step: the process did not live to see any
            await self._on_error(claim, OperatorError(f"The step was begun {MAX_ATTEMPTS} times and never ended"))
            return
        log.info("step_started", task=task.id, state=task.state, attempt=claim.attempts)
        began, outcome = time.monotonic(), "failed"
        try:
            with span("step", task=task.id, state=task.state.value, attempt=claim.attempts):
                await self._run_leased(stage, claim)
            outcome = "done"
        except LeaseLost as error:
            outcome = "lease_lost"
            log.warning("lease_lost", task=task.id, problem=str(error))
        except GradientsError as error:
            await self._on_error(claim, error)
        except Exception as error:  # the daemon's outer loop: whatever it is, it is ours and must not stop other tasks
            log.exception("step_crashed", task=task.id, state=task.state)
            await self._on_error(claim, OperatorError(f"{type(error).__name__}: {error}"))
        finally:
            STEP_SECONDS.labels(task.state, outcome).observe(time.monotonic() - began)

    async def _on_error(self, claim: Claim, error: GradientsError) -> None:
        """A customer's fault ends the task; anything else is tried again with growing rests, and then ends it.

        An outage has a patience of its own, in time; other failures are counted.
        """
        outage = error.blame is Blame.OUTSIDE
        patience = PATIENCE_SECONDS.get(claim.task.state, LONGEST_PATIENCE_SECONDS)
        over = claim.outage_seconds >= patience if outage else claim.attempts >= MAX_ATTEMPTS
        hopeless = over or error.blame is Blame.CUSTOMER
        STEP_FAILURES.labels(claim.task.state, error.blame).inc()
        log.warning(
            "step_failed",
            task=claim.task.id,
            state=claim.task.state,
            code=error.code,
            problem=str(error),
            final=hopeless,
        )
        tasks = self._ledger.tasks
        with contextlib.suppress(LeaseLost):
            if hopeless:
                await asyncio.to_thread(
                    tasks.advance,
                    claim.lease,
                    came_from=claim.task.state,
                    to=TaskState.FAILED,
                    failure=Failure.of(error),
                )
            else:
                before = claim.outages if outage else claim.attempts - 1
                rest = min(FIRST_REST_SECONDS * 2.0 ** min(before, 32), LONGEST_REST_SECONDS)
                await asyncio.to_thread(
                    tasks.postpone, claim.lease, seconds=rest, problem=f"{error.code}: {error}", outage=outage
                )

    async def _run_leased(self, stage: Stage, claim: Claim) -> None:
        """Run the stage while its lease is renewed; a lost lease cancels it."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(self._lease_seconds / 3)
                await asyncio.to_thread(self._ledger.tasks.renew, claim.lease, lease_seconds=self._lease_seconds)

        step = asyncio.create_task(stage.run(claim))
        beating = asyncio.create_task(beat())
        try:
            await asyncio.wait({step, beating}, return_when=asyncio.FIRST_COMPLETED)
            await (step if step.done() else beating)
        finally:
            for running in (step, beating):
                running.cancel()
            await asyncio.gather(step, beating, return_exceptions=True)
