"""What the miner's page shows, out of journal, trainers' reports, conditions, and the chain as it was read last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gradients.axon.messages import AttemptStatus
from gradients.chain.view import ChainView
from gradients.conditions.state import Conditions
from gradients.domain.json import JsonObject
from gradients.domain.task import Hotkey
from gradients.web.curves import Curve, chart
from miner.journal import Journal, Record

MOST_RESULTS = 100


@dataclass(frozen=True, slots=True)
class Behind:
    """What the page looks at."""

    journal: Journal
    view: ChainView
    hotkey: Hotkey
    recipe: str
    status: Callable[[str], AttemptStatus]  # of a task in the journal
    curves: Mapping[str, Curve]  # by task
    conditions: Conditions


@dataclass(frozen=True, slots=True)
class JobShown:
    """A task that has not come to its commitment."""

    record: Record
    status: AttemptStatus
    blocks_left: int
    curve: JsonObject


@dataclass(frozen=True, slots=True)
class Earnings:
    """What the chain pays."""

    uid: int
    incentive: float  # share of the last epoch
    emission_alpha: float  # in the last epoch
    stake_alpha: float
    tempo_blocks: int


def jobs_of(behind: Behind) -> list[JobShown]:
    """What is trained or about to be committed, the nearest deadline first."""
    running = [record for record in behind.journal.all() if record.phase in ("training", "trained")]
    shown = [
        JobShown(
            record,
            behind.status(record.task_id),
            max(record.start.deadline_block - behind.view.block, 0),
            chart({"training loss": behind.curves[record.task_id].points} if record.task_id in behind.curves else {}),
        )
        for record in running
    ]
    return sorted(shown, key=lambda job: job.record.start.deadline_block)


def results_of(behind: Behind) -> Sequence[Record]:
    """What was handed in or has failed, the newest first."""
    ended = [record for record in behind.journal.all() if record.phase in ("committed", "failed")]
    return ended[: -MOST_RESULTS - 1 : -1]


def earnings_of(behind: Behind) -> Earnings | None:
    """What the hotkey is paid; None while the chain was not read, or where it is not registered any more."""
    if not behind.view.block:
        return None
    metagraph = behind.view.metagraph()
    neuron = metagraph.by_hotkey(behind.hotkey)
    if neuron is None:
        return None
    return Earnings(neuron.uid, neuron.incentive, neuron.emission_alpha, neuron.stake_alpha, metagraph.tempo_blocks)
