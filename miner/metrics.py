"""Figures about a miner for `/metrics`; docs/monitoring.md says what each is good for."""

from __future__ import annotations

from collections import Counter as Tally

from prometheus_client import Counter, Gauge

from miner.journal import Journal

TASKS = Gauge("gradients_miner_tasks", "tasks in the journal", ["phase"])
OFFERS = Counter("gradients_miner_offers", "offers that were answered", ["answer"])
FAILURES = Counter(
    "gradients_miner_failures", "tasks that ended without a submission, by whose fault it was", ["blame"]
)
PHASES = ("training", "trained", "committed", "failed")


def count_tasks(journal: Journal) -> None:
    """Set the figure of tasks, one series for each phase."""
    phases: Tally[str] = Tally(record.phase for record in journal.all())
    for phase in PHASES:
        TASKS.labels(phase).set(phases[phase])
