"""Whether miners say themselves that their training has failed: a signed answer to this question about this task, and no other word."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from gradients.axon.client import AxonClient, Peer
from gradients.axon.messages import AttemptStatus
from gradients.domain.chain import Metagraph
from gradients.domain.submission import Submission
from gradients.errors import OutsideError, PeerMisbehaved, SubmissionRejected


async def failure_told(client: AxonClient, peer: Peer, task_id: str) -> SubmissionRejected | None:
    """What ends a miner's submission by its own word; None for any other word, and for none: it is to be asked again."""
    with contextlib.suppress(OutsideError, PeerMisbehaved):
        said = await client.get(peer, f"/v1/tasks/{task_id}", answer=AttemptStatus)
        if (said.task_id, said.phase) == (task_id, "failed"):
            why = said.problem or "without a reason"
            return SubmissionRejected(f"The miner says that its training has failed: {why}", code="training_failed")
    return None


async def failures_told(
    client: AxonClient, metagraph: Metagraph, submissions: Sequence[Submission]
) -> list[SubmissionRejected | None]:
    """The same of each of a task's miners, asked at its address on chain at once."""

    async def ask(submission: Submission) -> SubmissionRejected | None:
        neuron = metagraph.by_hotkey(submission.hotkey)
        if neuron is None or neuron.axon is None:
            return None
        return await failure_told(client, Peer(submission.hotkey, neuron.axon), submission.task_id)

    return await asyncio.gather(*(ask(submission) for submission in submissions))
