"""Tasks as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from rich.table import Table

from gradients.domain.json import Json, JsonObject


def result_table(
    task: JsonObject, *, weights: Mapping[int, float] | None = None, incentive: Mapping[int, float] | None = None
) -> Table:
    """Base, every miner's held-out result, gain and points; weight and incentive when they are given."""
    metric = cast(Mapping[str, str], task["metric"])
    table = Table(
        title=f"{task['id']}  ({metric['name']}, {metric['unit']}, {task['better']} is better)", title_justify="left"
    )
    for column in ("", "miner", "recipe", "result", "gain", "points"):
        table.add_column(column, justify="right" if column in ("result", "gain", "points") else "left")
    if weights is not None:
        table.add_column("weight", justify="right")
        table.add_column("incentive", justify="right")
    base = cast(float | None, task["base_loss"])
    spare = [""] * (2 if weights is not None else 0)
    table.add_row("", "base model", "", number(base), "", "", *spare, style="dim")
    for miner in cast(Sequence[JsonObject], task["miners"]):
        uid = cast(int, miner["uid"])
        earned = [share((weights or {}).get(uid)), share((incentive or {}).get(uid))] if weights is not None else []
        table.add_row(
            str(miner["rank"] or "-"),
            f"uid {uid}",
            str(miner["recipe"]),
            number(miner["loss"]) if miner["loss"] is not None else str(miner["reason"])[:48],
            gain(base, miner["loss"], better=str(task["better"])),
            number(miner["points"], digits=1),
            *earned,
            style="bold green" if miner["rank"] == 1 else "",
        )
    return table


def task_table(tasks: Sequence[JsonObject]) -> Table:
    """One line per task."""
    table = Table()
    for column in ("task", "state", "base", "hours", "held-out rows", "note"):
        table.add_column(column)
    for task in tasks:
        failure = cast(Mapping[str, str] | None, task["failure"])
        note = f"{failure['code']}: {failure['message']}" if failure else ""
        table.add_row(*(str(task[key] or "") for key in ("id", "state", "base", "hours", "rows")), note)
    return table


def estimate_text(estimate: JsonObject) -> str:
    """What a spec will take, in words."""
    words = f"{estimate['rows']:,} rows"
    if estimate["tokens"] is not None:
        words += f", {estimate['tokens']:,} tokens an epoch"
    words += f"; {estimate['base']} has {estimate['parameters']:,} weights"
    if estimate["tokens_per_second"] is not None:
        measured = cast(Mapping[str, Json] | None, estimate["measured"])
        how = f"measured on {measured['device']}: {measured['tokens_per_second']:,.0f}" if measured else "by rule"
        words += f"; {estimate['tokens_per_second']:,.0f} tokens a second on {estimate['gpus']} device(s) ({how})"
    before = cast(Mapping[str, Json], estimate["hours_by_rows"])
    compared = f"by rows alone {before['source']} has {before['shortest']} to {before['longest']}"
    return f"{words}.\nThat makes {estimate['hours']:g} hours for each miner ({compared})."


def number(value: Json, *, digits: int = 4) -> str:
    """A number with fixed digits, or nothing."""
    return f"{value:.{digits}f}" if isinstance(value, int | float) else ""


def share(value: float | None) -> str:
    """A share as a percentage, or nothing."""
    return f"{value:.1%}" if value is not None else ""


def gain(base: float | None, value: Json, *, better: str) -> str:
    """How much better than the base's a result is, in percent of the base's; `better` is "lower" or "higher"."""
    if base is None or not isinstance(value, int | float) or base == 0:
        return ""
    improved = base - value if better == "lower" else value - base
    return f"{improved / abs(base):+.1%}"
