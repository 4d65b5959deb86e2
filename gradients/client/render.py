"""Tasks as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from gradients.client.models import Estimate, TaskDetails, TaskSummary
from gradients.domain.evaluation import Better

MOST_REASON_CHARACTERS = 48  # of a miner that has no result, so that the table keeps its shape


def result_table(
    task: TaskDetails, *, weights: Mapping[int, float] | None = None, incentive: Mapping[int, float] | None = None
) -> Table:
    """Base, every miner's held-out result, gain and points; weight and incentive when they are given."""
    table = Table(
        title=f"{task.id}  ({task.metric.name}, {task.metric.unit}, {task.better} is better)", title_justify="left"
    )
    for column in ("", "miner", "recipe", "result", "gain", "points"):
        table.add_column(column, justify="right" if column in ("result", "gain", "points") else "left")
    if weights is not None:
        table.add_column("weight", justify="right")
        table.add_column("incentive", justify="right")
    spare = [""] * (2 if weights is not None else 0)
    table.add_row("", "base model", "", number(task.base_loss), "", "", *spare, style="dim")
    for miner in task.miners:
        shares = [given.get(miner.uid) for given in (weights, incentive or {})] if weights is not None else []
        table.add_row(
            str(miner.rank or "-"),
            f"uid {miner.uid}",
            miner.recipe,
            number(miner.loss) if miner.loss is not None else miner.reason[:MOST_REASON_CHARACTERS],
            gain(task.base_loss, miner.loss, better=task.better),
            number(miner.points, digits=1),
            *(f"{share:.1%}" if share is not None else "" for share in shares),
            style="bold green" if miner.rank == 1 else "",
        )
    return table


def task_table(tasks: Sequence[TaskSummary]) -> Table:
    """One line per task."""
    table = Table()
    for column in ("task", "state", "base", "hours", "held-out rows", "note"):
        table.add_column(column)
    for task in tasks:
        note = f"{task.failure.code}: {task.failure.message}" if task.failure else ""
        table.add_row(task.id, task.state, task.base, str(task.hours), str(task.rows or ""), note)
    return table


def estimate_text(estimate: Estimate) -> str:
    """What a spec will take, in words."""
    words = f"{estimate.rows:,} rows"
    if estimate.tokens is not None:
        words += f", {estimate.tokens:,} tokens an epoch"
    words += f"; {estimate.base} has {estimate.parameters:,} weights"
    if estimate.tokens_per_second is not None:
        measured = estimate.measured
        how = f"measured on {measured.device}: {measured.tokens_per_second:,.0f}" if measured else "by rule"
        words += f"; {estimate.tokens_per_second:,.0f} tokens a second on {estimate.gpus} device(s) ({how})"
    before = estimate.hours_by_rows
    compared = f"by rows alone {before.source} has {before.shortest} to {before.longest}"
    return f"{words}.\nThat makes {estimate.hours:g} hours for each miner ({compared})."


def number(value: float | None, *, digits: int = 4) -> str:
    """A number with fixed digits, or nothing."""
    return f"{value:.{digits}f}" if value is not None else ""


def gain(base: float | None, value: float | None, *, better: Better) -> str:
    """How much better than the base's a result is, in percent of the base's."""
    if base is None or value is None or base == 0:
        return ""
    improved = base - value if better == "lower" else value - base
    return f"{improved / abs(base):+.1%}"
