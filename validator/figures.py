"""The ledger's counts as figures, together with how long our weights have stood."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import Gauge

from gradients.chain.view import ChainView
from gradients.domain.task import Hotkey, TaskState
from validator import metrics
from validator.ledger import Ledger
from validator.ledger.outbox import OutboxState


@dataclass(frozen=True, slots=True)
class Figures:
    """Takes them."""

    ledger: Ledger
    view: ChainView
    hotkey: Hotkey

    def take(self) -> None:
        """Count once. Blocks for the database; raises OutsideError when the metagraph is too old to tell."""
        counts = self.ledger.census.take(block=self.view.block)
        running = [state for state in TaskState if not state.ended]
        _set(metrics.TASKS, counts.tasks, TaskState)
        _set(metrics.WAITED, counts.waited_seconds, running)
        _set(metrics.DUE, counts.due, running)
        _set(metrics.CALLS, counts.calls, OutboxState)
        metrics.LEASED.set(counts.leased)
        metrics.LAPSED.set(counts.lapsed)
        graph = self.view.metagraph()
        if (neuron := graph.by_hotkey(self.hotkey)) is not None:
            metrics.WEIGHTS_AGE.set(self.view.block - neuron.last_update_block)
            metrics.WEIGHTS_CUTOFF.set(graph.activity_cutoff_blocks)


def _set(gauge: Gauge, counts: Mapping[str, float], names: Iterable[StrEnum]) -> None:
    """One series for each name, so that what is not there is 0 and not absent."""
    for name in names:
        gauge.labels(str(name)).set(counts.get(str(name), 0))
