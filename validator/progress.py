"""How far the miners are, by their own word: asked now and then, kept in memory, shown to people. No result depends on it.

When all miners of a task say that they have failed, the step that collects is asked to look before the deadline; it asks them itself.

Of a training that has ended its curve goes into the ledger, in one event; what was said before a restart of the validator is not in it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import cast

from gradients.axon.client import AxonClient, Peer
from gradients.axon.messages import AttemptStatus
from gradients.chain.view import ChainView
from gradients.domain.submission import Submission, SubmissionState
from gradients.domain.task import TaskState
from gradients.errors import GradientsError
from gradients.web.curves import Curve, Point
from validator.ledger import Ledger
from validator.loops import run_forever

ASK_EVERY_SECONDS = 2.0
ANSWER_SECONDS = 2.0
TRAINING_TOLD = "training_told"  # the event that keeps a curve


class ProgressBoard:
    """The miners' last words about their running tasks."""

    def __init__(
        self, ledger: Ledger, view: ChainView, client: AxonClient, *, every_seconds: float = ASK_EVERY_SECONDS
    ) -> None:
        self._ledger = ledger
        self._view = view
        self._client = client
        self._every_seconds = every_seconds
        self._last: dict[tuple[str, str], AttemptStatus] = {}
        self._curves: defaultdict[tuple[str, str], Curve] = defaultdict(Curve)

    def of(self, task_id: str, hotkey: str) -> AttemptStatus | None:
        """What the miner said last, or None."""
        return self._last.get((task_id, hotkey))

    def curves(self, task_id: str) -> Mapping[str, Sequence[Point]]:
        """Hotkey -> its training losses by step, as far as they have been told. Blocking."""
        told: defaultdict[str, list[Point]] = defaultdict(list)
        for event in self._ledger.events.of_task(task_id, name=TRAINING_TOLD):
            points = cast(list[Point], event.fields["points"])
            told[cast(str, event.fields["hotkey"])] += [(step, loss) for step, loss in points]
        for (task, hotkey), curve in list(self._curves.items()):
            if task == task_id and curve.points:
                told[hotkey] += curve.points
        return told

    async def run(self) -> None:
        """Ask for ever."""
        await run_forever(self._ask_all, name="progress")

    async def _ask_all(self) -> None:
        def assigned() -> list[Submission]:
            tasks = [task for task in self._ledger.tasks.list() if task.state is TaskState.ASSIGNED]
            return [s for task in tasks for s in self._ledger.submissions.of_task(task.id)]

        running = [s for s in await asyncio.to_thread(assigned) if s.state is SubmissionState.STARTED]
        known = {(s.task_id, s.hotkey) for s in running}
        self._last = {key: status for key, status in self._last.items() if key in known}
        for key in [key for key in self._curves if key not in known]:
            await asyncio.to_thread(self._keep, *key)
            del self._curves[key]
        await asyncio.gather(*(self._ask(submission) for submission in running))
        going_on = {s.task_id for s in running if not self._has_failed(s)}
        for task_id in {s.task_id for s in running} - going_on:
            await asyncio.to_thread(self._ledger.tasks.hasten, task_id)
        await asyncio.sleep(self._every_seconds)

    def _has_failed(self, submission: Submission) -> bool:
        said = self.of(submission.task_id, submission.hotkey)
        return said is not None and said.phase == "failed"

    def _keep(self, task_id: str, hotkey: str) -> None:
        points = [list(point) for point in self._curves[task_id, hotkey].points]
        if len(points) > 1:
            self._ledger.events.add(TRAINING_TOLD, task_id=task_id, fields={"hotkey": hotkey, "points": points})

    async def _ask(self, submission: Submission) -> None:
        try:
            neuron = self._view.metagraph().by_hotkey(submission.hotkey)
            if neuron is None or neuron.axon is None:
                return
            peer = Peer(hotkey=submission.hotkey, address=neuron.axon)
            async with asyncio.timeout(ANSWER_SECONDS):
                status = await self._client.get(peer, f"/v1/tasks/{submission.task_id}", answer=AttemptStatus)
        except (GradientsError, TimeoutError):
            return  # silence is shown as the last word
        key = (submission.task_id, submission.hotkey)
        self._last[key] = status
        self._curves[key].add(status.step, status.loss)
