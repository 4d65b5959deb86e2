"""Asks validators what became of what was handed in, until they have said all of it; the journal keeps the last word.

The miner asks and is not told: an answer that got lost, or a restart of either side, costs another question and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradients.axon.client import AxonClient, Peer
from gradients.axon.messages import Outcome
from gradients.chain.view import ChainView
from gradients.domain.task import Hotkey
from gradients.errors import GradientsError
from gradients.log import get_logger
from miner.journal import Journal, Record

ASK_EVERY_BLOCKS = 5
PATIENCE_BLOCKS = 8 * 7_200  # a validator has patience for a week, and then weights are due

log = get_logger("outcomes")


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The questions of one miner."""

    journal: Journal
    view: ChainView
    client: AxonClient
    patience_blocks: int = PATIENCE_BLOCKS  # after the reveal

    async def run(self) -> None:
        """Ask now and then, for ever."""
        while True:
            await self.ask_all()
            await self.view.wait_for_block(self.view.block + ASK_EVERY_BLOCKS)

    async def ask_all(self) -> None:
        """One question about every task whose last word is still to come."""
        for record in self.journal.all():
            if not self._is_open(record):
                continue
            try:
                self._keep(record, await self._ask(record))
            except GradientsError as error:  # not scored yet, or not there
                log.debug("outcome_unknown", task=record.task_id, code=error.code, problem=str(error))
            except Exception:  # the loop's outermost: one task's answer must not end the others' questions
                log.exception("outcome_failed", task=record.task_id)

    async def _ask(self, record: Record) -> Outcome | None:
        neuron = self.view.metagraph().by_hotkey(record.validator)
        if neuron is None or neuron.axon is None:
            return None
        peer = Peer(Hotkey(record.validator), neuron.axon)
        return await self.client.get(peer, f"/v1/tasks/{record.task_id}/outcome", answer=Outcome)

    def _keep(self, record: Record, outcome: Outcome | None) -> None:
        """Write down what is news."""
        if outcome is None or outcome == record.outcome or outcome.task_id != record.task_id:
            return
        self.journal.change(record.task_id, outcome=outcome)
        log.info(
            "outcome",
            task=record.task_id,
            state=outcome.state,
            loss=outcome.loss,
            rank=outcome.rank,
            chance=outcome.chance,
            share=outcome.share,
            reason=outcome.reason,
        )

    def _is_open(self, record: Record) -> bool:
        """Whether the validator has more to say: something was handed in, and it is not scored, or no weights have counted it."""
        said = record.outcome
        ended = said is not None and (said.state == "failed" or said.share is not None)
        over = record.start.reveal_until_block + self.patience_blocks
        return record.phase == "committed" and not ended and record.start.deadline_block < self.view.block <= over
