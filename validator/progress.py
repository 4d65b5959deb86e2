"""How far the miners are, by their own word: asked now and then, kept in memory, shown to people. Nothing depends on it."""

from __future__ import annotations

import asyncio

from gradients.axon.client import AxonClient, Peer
from gradients.axon.messages import AttemptStatus
from gradients.chain.view import ChainView
from gradients.domain.submission import Submission, SubmissionState
from gradients.domain.task import TaskState
from gradients.errors import GradientsError
from validator.ledger import Ledger
from validator.loops import run_forever

ASK_EVERY_SECONDS = 2.0
ANSWER_SECONDS = 2.0


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

    def of(self, task_id: str, hotkey: str) -> AttemptStatus | None:
        """What the miner said last, or None."""
        return self._last.get((task_id, hotkey))

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
        await asyncio.gather(*(self._ask(submission) for submission in running))
        await asyncio.sleep(self._every_seconds)

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
        self._last[submission.task_id, submission.hotkey] = status
