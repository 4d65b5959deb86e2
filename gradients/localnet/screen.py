"""The terminal view of a running market."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self, cast

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gradients.client.render import number, result_table
from gradients.domain.json import Json, JsonObject
from gradients.domain.task import TaskState
from gradients.localnet.snapshot import Snapshot

STEPS = tuple(state.value for state in TaskState if state is not TaskState.FAILED)
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
    all_scored = all(_is_scored(task) for task in snapshot.tasks)
    tasks = [
        _scored_line(task) if _is_scored(task) and not all_scored else draw_task(task, snapshot)
        for task in snapshot.tasks
    ]
    return Group(head, *tasks, Text("  ".join(restarted), style="yellow"))


def draw_task(task: JsonObject, snapshot: Snapshot) -> RenderableType:
    """One task: where it stands, and a line per miner or the results."""
    scored = _is_scored(task)
    body = result_table(task, weights=snapshot.weights, incentive=snapshot.incentive) if scored else _miner_lines(task)
    title = None if scored else str(task["id"])  # the table of results has its own
    return Panel(Group(_steps(str(task["state"])), _data_line(task), body), title=title, title_align="left")


def plain_line(snapshot: Snapshot) -> str:
    """The view in one line, for logs and pipes."""
    tasks = "  ".join(_plain_task(task) for task in snapshot.tasks)
    return f"[{snapshot.seconds:6.1f} s] block {snapshot.block:>4}  {snapshot.doing}" + (f"  {tasks}" if tasks else "")


def _is_scored(task: JsonObject) -> bool:
    return task["state"] == TaskState.SCORED


def _scored_line(task: JsonObject) -> Text:
    """Base and best of a task in one line."""
    best = next((miner for miner in cast(Sequence[JsonObject], task["miners"]) if miner["rank"] == 1), None)
    words = f"best {number(best['loss'])} (uid {best['uid']}, {best['recipe']})" if best else "nobody has a place"
    return Text.assemble((f" {task['id']}  ", "green"), f"scored: base {number(task['base_loss'])}, {words}")


def _steps(state: str) -> Text:
    """The path of a task, with the place where it is."""
    if state == TaskState.FAILED:
        return Text("failed", style="bold red")
    reached = STEPS.index(state)
    words = [
        (f" {step} ", "green" if i < reached else "bold reverse" if i == reached else "dim")
        for i, step in enumerate(STEPS)
    ]
    return Text.assemble(*words)


def _data_line(task: JsonObject) -> Text:
    failure = cast(Mapping[str, str] | None, task["failure"])
    if failure:
        return Text(f"{failure['code']}: {failure['message']}", style="red")
    data = cast(JsonObject | None, task.get("data"))
    if not data:
        return Text(f"base {task['base']}", style="dim")
    blocks = cast(JsonObject | None, task.get("blocks"))
    deadline = f", deadline at block {blocks['deadline']}" if blocks else ""
    return Text(
        f"base {task['base']}: {data['train_rows']} train rows, {data['held_out_rows']} held out{deadline}", style="dim"
    )


def _miner_lines(task: JsonObject) -> Table:
    table = Table.grid(padding=(0, 2))
    for miner in cast(Sequence[JsonObject], task.get("miners", ())):
        progress = cast(JsonObject, miner["progress"] or {})
        done = cast(float, progress.get("fraction", 0.0))
        table.add_row(
            f"uid {miner['uid']}",
            str(miner["recipe"]),
            str(progress.get("phase", miner["state"])),
            ProgressBar(total=1.0, completed=done, width=BAR_WIDTH),
            f"step {progress['step']}" if progress.get("step") else "",
            _loss(progress.get("loss")),
            str(progress.get("problem") or miner["reason"]),
        )
    return table


def _plain_task(task: JsonObject) -> str:
    miners: Iterable[JsonObject] = cast(Sequence[JsonObject], task.get("miners", ()))
    words = []
    for miner in miners:
        progress = cast(JsonObject | None, miner["progress"])
        words.append(
            f"{miner['recipe']} {progress['phase']} {cast(float, progress['fraction']):.0%}"
            if progress
            else str(miner["recipe"])
        )
    return f"{task['id']} {task['state']}" + (f" ({', '.join(words)})" if words else "")


def _loss(value: Json) -> str:
    return f"loss {number(value, digits=3)}" if value is not None else ""
