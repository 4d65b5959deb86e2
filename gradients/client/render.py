"""Tasks as tables for people. What miners, customers and validators wrote is shown as it is written, never taken for markup."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradients.client.estimates import DataReport, Estimate
from gradients.client.held_out import HeldOutRow, HeldOutRows
from gradients.client.models import MinerResult, SourceReport, TaskDetails, TaskSummary
from gradients.texts import harmless

BAR_CHARACTERS = 30
NUMBERS = ("result", "gain", "chance", "prize", "weight", "incentive")


def console() -> Console:
    """The terminal, which takes no text for markup, links or emoji."""
    return Console(markup=False, emoji=False, highlight=False)


def words(text: str) -> Text:
    """A stranger's words as a cell."""
    return Text(harmless(text))


def result_table(
    task: TaskDetails, *, weights: Mapping[int, float] | None = None, incentive: Mapping[int, float] | None = None
) -> Table:
    """Base, and every miner's held-out result, gain, chance of being the best model and prize; weight and incentive when they are given.

    Whoever has no place has its reason below the table, or how far it is.
    """
    table = Table(
        title=words(f"{task.id}  ({task.metric.name}, {task.metric.unit}, {task.better} is better)"),
        title_justify="left",
    )
    for column in ("", "miner", "recipe", *NUMBERS[: 4 if weights is None else 6]):
        table.add_column(column, justify="right" if column in NUMBERS else "left")
    table.add_row("", "base model", "", number(task.base_loss), style="dim")
    for miner in task.miners:
        shares = (
            [given.get(miner.uid, 0.0) if given else None for given in (weights, incentive or {})]
            if weights is not None
            else []
        )
        table.add_row(
            str(miner.rank or "-"),
            f"uid {miner.uid}",
            words(miner.recipe),
            number(miner.loss),
            _gain(miner),
            percent(miner.chance),
            number(miner.prize, digits=2),
            *map(percent, shares),
            style="bold green" if miner.rank == 1 else "",
        )
    reasons = [
        harmless(f"uid {miner.uid}: {said}") for miner in task.miners if miner.rank is None and (said := _news(miner))
    ]
    table.caption, table.caption_justify = Text("\n".join(reasons)) if reasons else None, "left"
    return table


def _gain(miner: MinerResult) -> str:
    """The gain over the base with its 95 % interval, as far as they are known."""
    if miner.gain is None:
        return ""
    if miner.gain_low is None or miner.gain_high is None:
        return f"{miner.gain:+.1%}"
    return f"{miner.gain:+.1%} ({miner.gain_low:+.1%} to {miner.gain_high:+.1%})"


def times_text(task: TaskDetails) -> str:
    """When a task that runs is due, in local time; nothing for any other."""
    blocks = task.blocks
    if task.state.ended or blocks is None or blocks.deadline_at is None:
        return ""
    due = datetime.fromtimestamp(blocks.deadline_at).astimezone()
    return f"Miners train until about {due:%d %b %Y %H:%M %Z} (block {blocks.deadline:,})"


def _news(miner: MinerResult) -> str:
    """Why a miner has no place; while its task runs, how far it is, and what troubles it by its own word."""
    progress = miner.progress
    if miner.reason or progress is None:
        return miner.reason
    return f"{progress.phase} {progress.fraction:.0%}" + (f", {progress.problem}" if progress.problem else "")


def answer_table(task: TaskDetails, answers: Mapping[str, str]) -> Table:
    """What each model answered, the base first, and how it did on the held-out rows."""
    table = Table(show_lines=True)
    for column in ("", "result", "answer"):
        table.add_column(column)
    by_hotkey = {miner.hotkey: miner for miner in task.miners}
    for who, answer in answers.items():
        miner = by_hotkey.get(who)
        name, loss = (f"uid {miner.uid}", miner.loss) if miner else ("base model", task.base_loss)
        table.add_row(name, number(loss), Text(harmless(answer, most=100_000, lines=True)))
    return table


def task_table(tasks: Sequence[TaskSummary]) -> Table:
    """One line per task."""
    table = Table()
    for column in ("task", "state", "base", "hours", "held-out rows", "note"):
        table.add_column(column)
    for task in tasks:
        note = f"{task.failure.code}: {task.failure.message}" if task.failure else task.note
        table.add_row(*map(words, (task.id, task.state, task.base, str(task.hours), str(task.rows or ""), note)))
    return table


def lineage_text(task: TaskDetails) -> Text:
    """Where the base of a task comes from that continues others."""
    steps = [task.lineage[0].base, *(each.task for each in task.lineage), task.id]
    return words(f"Continues: {' → '.join(steps)}")


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
    if estimate.memory:
        words += f".\nMemory for {memory_text(estimate)}"
    if estimate.cut_rows:
        tried = f"{estimate.cut_rows:,} of {estimate.tried_rows:,} rows that were tried"
        words += f".\n{tried} lose tokens to max_tokens or to what the base reads"
    if estimate.data is not None:
        words += f".\n{report_text(estimate.data)}"
    before = estimate.hours_by_rows
    compared = f"by rows alone {before.source} has {before.shortest} to {before.longest}"
    return f"{words}.\nThat makes {estimate.hours:g} hours for each miner ({compared})."


def memory_text(estimate: Estimate) -> str:
    """Which GPUs it can be trained on."""
    what = {"lora": "a LoRA", "full": "all weights"}
    return ", ".join(
        f"{what[each.method]} on a GPU of {each.gpu_gib} GiB"
        if each.gpu_gib
        else f"{what[each.method]} on no single GPU"
        for each in estimate.memory
    )


def report_text(data: DataReport) -> str:
    """What will become of the rows, in lines: what is left out and why, how long they are, and what some of them look like."""
    lines = [f"Of {data.rows:,} rows"]
    if data.train_rows is not None:
        lines[0] += f" about {data.train_rows:,} are trained on and {data.held_out_rows:,} are held out"
    lines[0] += "; left out: " + (", ".join(f"{count:,} {reason}" for reason, count in data.removed.items()) or "none")
    lines += map(source_text, data.sources)
    for unit, lengths in (("characters", data.characters), ("tokens", data.tokens)):
        if lengths is None:
            continue
        shape = f"{lengths.shortest:,} to {lengths.longest:,}, half at most {lengths.median:,}, 95 % at most {lengths.most_of_95_percent:,}"
        lines.append(f"A row has {shape} {unit} ({lengths.rows:,} rows looked at):")
        most = max(bar.rows for bar in lengths.histogram)
        lines += [
            f"  up to {bar.up_to:>9,}  {'#' * math.ceil(BAR_CHARACTERS * bar.rows / most):<{BAR_CHARACTERS}} {bar.rows:,}"
            for bar in lengths.histogram
        ]
    lines += [f"Sample: {harmless(json.dumps(row, ensure_ascii=False))}" for row in data.samples]
    return "\n".join(lines)


def source_text(source: SourceReport) -> str:
    """What becomes of one of several data sets, in a line."""
    said = f"  {harmless(source.dataset)}: {source.rows:,} rows, {source.taken:,} taken, {source.usable:,} usable"
    if source.repeated:
        said += f", {source.repeated:,} of them in an earlier data set too"
    if source.train_rows is not None:
        said += f"; {source.train_rows:,} to train on, {source.held_out_rows:,} held out"
    return said


def rows_text(page: HeldOutRows) -> str:
    """A page of held-out rows: what the miner gains on the whole, and each row with its numbers and texts."""
    of = f"{harmless(page.miner)} is better than the base" if page.miner else "No miner was measured"
    said = f"{of} on {page.gained:,} and worse on {page.lost:,} of {page.total:,} held-out rows" if page.miner else of
    if not page.kept:
        said += ".\nThe rows themselves are no longer kept here; their numbers are"
    unit = harmless(f"{page.metric.name}, {page.metric.unit}; {page.better} is better")
    return "\n\n".join([f"{said} ({unit}).", *map(row_text, page.rows)])


def row_text(row: HeldOutRow) -> str:
    """A held-out row with what base and miners have on it."""
    of_all = [f"{harmless(hotkey)[:8]}… {number(value)}" for hotkey, value in row.miners.items()]
    gain = f", gain {row.gain:+.4f}" if row.gain is not None else ""
    numbers = ", ".join([f"base {number(row.base) or 'not measured'}", *of_all])
    lines = [f"Row {row.row:,}{' (synthetic)' if row.made_up else ''}{gain}: {numbers}"]
    for name, value in (row.content or {}).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if value is not None:
            lines.append(f"  {harmless(name)}: {harmless(text, most=100_000, lines=True)}")
    return "\n".join(lines + (["  Long texts are cut; --row shows the whole"] if row.is_cut else []))


def number(value: float | None, *, digits: int = 4) -> str:
    """A number with fixed digits, or nothing."""
    return f"{value:.{digits}f}" if value is not None else ""


def percent(share: float | None) -> str:
    """A share in percent, or nothing."""
    return f"{share:.1%}" if share is not None else ""
