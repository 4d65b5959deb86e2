"""The terminal view of a running market."""

from __future__ import annotations

from typing import Self

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gradients.client.models import TaskDetails
from gradients.client.render import number, result_table, words
from gradients.domain.task import TaskState
from gradients.localnet.snapshot import Snapshot
from gradients.texts import harmless

ENDED_EARLY = (TaskState.FAILED, TaskState.CANCELLED)
STEPS = tuple(state for state in TaskState if state not in ENDED_EARLY)
BAR_WIDTH = 24
PLAIN_EVERY_SECONDS = 5.0


class LiveScreen:
    """The view on a terminal, redrawn in place."""

    def __init__(self) -> None:
        self._live = Live(console=Console(stderr=True), refresh_per_second=4)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Draw the newest picture."""
        self._live.update(draw(snapshot))


class PlainScreen:
    """The view as lines on standard error: one when something has changed, at most every few seconds."""

    def __init__(self) -> None:
        self._doing = ""
        self._shown_at = -PLAIN_EVERY_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def show(self, snapshot: Snapshot) -> None:
        """Print a line unless there is nothing new to say."""
        if snapshot.doing == self._doing and snapshot.seconds - self._shown_at < PLAIN_EVERY_SECONDS:
            return
        self._doing, self._shown_at = snapshot.doing, snapshot.seconds
        typer.echo(plain_line(snapshot), err=True)


def draw(snapshot: Snapshot) -> RenderableType:
    """The whole view: chain, every task with its miners, and what is being waited for.

    While tasks are under way, those that are scored have a line each: a terminal is too low for all tables.
    """
    minutes, seconds = divmod(int(snapshot.seconds), 60)
    head = Text.assemble(
        ("gradients localnet", "bold"),
        f"   block {snapshot.block}   {minutes}:{seconds:02}   ",
        (snapshot.doing, "cyan"),
    )
    restarted = [f"{name} restarted {times}x" for name, times in snapshot.restarts.items() if times]
    all_scored = all(task.state is TaskState.SCORED for task in snapshot.tasks)
    tasks: list[RenderableType] = []
    for task in snapshot.tasks:
        if task.state is not TaskState.SCORED or all_scored:
            tasks.append(draw_task(task, snapshot))
            continue
        best = task.best
        won = f"best {number(best.loss)} (uid {best.uid}, {best.recipe})" if best else "nobody has a place"
        scored = harmless(f"scored: base {number(task.base_loss)}, {won}")
        tasks.append(Text.assemble((f" {task.id}  ", "green"), scored))
    return Group(head, *tasks, Text("  ".join(restarted), style="yellow"))


def draw_task(task: TaskDetails, snapshot: Snapshot) -> RenderableType:
    """One task: where it stands, and a line per miner or the results."""
    failed, scored = task.state in ENDED_EARLY, task.state is TaskState.SCORED
    reached = -1 if failed else STEPS.index(task.state)
    path = Text(task.state, style="bold red") if failed else Text()
    for index, step in enumerate(() if failed else STEPS):
        path.append(f" {step} ", "green" if index < reached else "bold reverse" if index == reached else "dim")
    data = Text(f"base {task.base}", style="dim")
    if task.data:
        data.append(f": {task.data.train_rows} train rows, {task.data.held_out_rows} held out")
    if task.blocks:
        data.append(f", deadline at block {task.blocks.deadline}")
    if task.failure:
        data = Text(harmless(f"{task.failure.code}: {task.failure.message}"), style="red")
    body = result_table(task, weights=snapshot.weights, incentive=snapshot.incentive) if scored else _miner_lines(task)
    title = None if scored else task.id  # the table of results has its own
    return Panel(Group(path, data, body), title=title, title_align="left")


def plain_line(snapshot: Snapshot) -> str:
    """The view in one line, for logs and pipes."""
    line = f"[{snapshot.seconds:6.1f} s] block {snapshot.block:>4}  {snapshot.doing}"
    for task in snapshot.tasks:
        miners = []
        for miner in task.miners:
            progress = miner.progress
            miners.append(f"{miner.recipe} {progress.phase} {progress.fraction:.0%}" if progress else miner.recipe)
        line += f"  {task.id} {task.state}" + (f" ({', '.join(miners)})" if miners else "")
    return harmless(line, most=10_000)


def _miner_lines(task: TaskDetails) -> Table:
    table = Table.grid(padding=(0, 2))
    for miner in task.miners:
        progress = miner.progress
        loss = progress.loss if progress else None
        table.add_row(
            f"uid {miner.uid}",
            words(miner.recipe),
            progress.phase if progress else miner.state,
            ProgressBar(total=1.0, completed=progress.fraction if progress else 0.0, width=BAR_WIDTH),
            f"step {progress.step}" if progress and progress.step else "",
            f"loss {number(loss, digits=3)}" if loss is not None else "",
            words((progress.problem if progress else "") or miner.reason),
        )
    return table
