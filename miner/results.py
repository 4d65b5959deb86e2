"""What became of every task of a miner, out of its journal: for scripts, and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from gradients.client.render import words
from gradients.domain.json import JsonObject
from miner.journal import Record


def as_json(record: Record) -> JsonObject:
    """One task; `outcome` is null until its validator has said how it ended."""
    return {
        "task": record.task_id,
        "type": record.start.offer.type,
        "base": record.start.offer.base,
        "validator": record.validator,
        "accepted_at": record.accepted_at,
        "phase": record.phase,
        "committed_at_block": record.committed_at_block,
        "failure": record.failure,
        "outcome": record.outcome.model_dump(mode="json", exclude={"version", "task_id"}) if record.outcome else None,
    }


def results_table(records: Sequence[Record]) -> Table:
    """A line per task, oldest first."""
    table = Table()
    for column in ("task", "base", "result", "gain", "rank", "chance", "prize", "weight"):
        table.add_column(column, justify="left" if column == "task" else "right")
    table.add_column("")
    for record in records:
        said = record.outcome
        if said is None or said.state == "failed":
            last_word = said.reason if said else record.failure or _waiting(record)
            table.add_row(record.task_id, *[""] * 7, words(last_word))
            continue
        table.add_row(
            record.task_id,
            _number(said.base_loss),
            _number(said.loss),
            f"{said.gain:+.1%}" if said.gain is not None else "",
            f"{said.rank} of {said.ranked}" if said.rank is not None else "-",
            f"{said.chance:.1%}",
            f"{said.prize:.2f}",
            f"{said.share:.2%}" if said.share is not None else "not yet",
            words(said.reason),
        )
    return table


def _waiting(record: Record) -> str:
    return "handed in, not scored yet" if record.phase == "committed" else record.phase


def _number(value: float | None) -> str:
    return f"{value:.4f}" if value is not None else ""
