"""`gradients task`: the customers' commands. HTTP client and settings are imported when a command runs: help needs neither."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli import account, models, rewards, rows, uploads
from gradients.cli.customer import AsJson, Key, TaskArgument, Url, as_json_text, market
from gradients.cli.spec import Base, Continues, Dataset, Parameters, Spec, Type, dataset_of, task_spec

if TYPE_CHECKING:
    from gradients.client.models import TaskDetails, TaskEvent, TaskProgress

app = typer.Typer(help="Post tasks, watch them, get and try the models.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def submit(
    type: Type = None,  # noqa: A002
    base: Base = None,
    continues: Continues = None,
    dataset: Dataset = None,
    hours: Annotated[
        float | None, typer.Option(help="Training budget of each miner; without it an estimate is shown first.")
    ] = None,
    spec_file: Spec = None,
    parameters: Parameters = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take the estimated hours without asking.")] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="Any text: the same command with the same key, within a day, posts the task once."),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Post a task: say what to train, on which rows, for how long."""
    spec = task_spec(
        spec_file, parameters, type=type, base=base, continues=continues, dataset=dataset_of(dataset), hours=hours
    )
    with market(url, key) as client:
        if "hours" not in spec:
            spec = client.uploaded(spec)
            estimate = client.estimate(spec)
            if not as_json:
                from gradients.client.render import estimate_text

                typer.echo(estimate_text(estimate))
            if not (yes or as_json):
                typer.confirm("Post the task?", default=True, abort=True)
            spec["hours"] = estimate.hours
        task = client.submit(spec, idempotency_key=idempotency_key)
    typer.echo(
        as_json_text(task) if as_json else f"{task.id} is posted; follow it with `gradients task watch {task.id}`"
    )


@app.command()
def estimate(
    type: Type = None,  # noqa: A002
    base: Base = None,
    continues: Continues = None,
    dataset: Dataset = None,
    spec_file: Spec = None,
    parameters: Parameters = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """What a task would take: rows, tokens, speed and hours. Nothing is posted."""
    spec = task_spec(spec_file, parameters, type=type, base=base, continues=continues, dataset=dataset_of(dataset))
    with market(url, key) as client:
        found = client.estimate(spec)
    if as_json:
        typer.echo(as_json_text(found))
        return
    from gradients.client.render import estimate_text

    typer.echo(estimate_text(found))


@app.command("list")
def list_tasks(
    state: Annotated[
        list[str] | None, typer.Option(help="Only tasks in this state, such as scored; may be repeated.")
    ] = None,
    type: Annotated[str | None, typer.Option("--type", help="Only tasks of this type.")] = None,  # noqa: A002
    search: Annotated[str | None, typer.Option(help="Only tasks with this text in their id or base.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended, as it has said.")] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Your tasks, newest first; what follows is told on stderr."""
    from gradients.client.requests import Wanted
    from gradients.domain.task import TaskState

    known = [each.value for each in TaskState]
    if unknown := [each for each in state or () if each not in known]:
        raise typer.BadParameter(f"There is no state {unknown[0]!r}; choose from {', '.join(known)}")
    wanted = Wanted(states=[TaskState(each) for each in state or ()], type=type, search=search)
    with market(url, key) as client:
        page = client.tasks(wanted, limit=limit, cursor=cursor)
    if as_json:
        typer.echo(json.dumps([task.model_dump(mode="json") for task in page.tasks]))
    else:
        from gradients.client.render import console, task_table

        console().print(task_table(page.tasks))
    if page.next:
        typer.echo(f"There are more: --cursor {page.next}", err=True)


@app.command()
def cancel(task_id: TaskArgument, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Take a task back, as long as no miner has been drawn for it."""
    with market(url, key) as client:
        task = client.cancel(task_id)
    typer.echo(as_json_text(task) if as_json else f"{task.id} is cancelled")


@app.command()
def show(task_id: TaskArgument, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """One task: its state, data, miners and results."""
    with market(url, key) as client:
        task = client.task(task_id)
    if as_json:
        typer.echo(as_json_text(task))
    else:
        _print_task(task)


@app.command()
def watch(task_id: TaskArgument, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Follow a task until it has ended; with --json one line per change."""
    last, task = "", None
    with market(url, key) as client:
        for task in client.watch(task_id):
            line = as_json_text(task) if as_json else _progress_line(task)
            if line != last:
                typer.echo(line)
            last = line
    if task is not None and not as_json:
        _print_task(task)
    if task is not None and task.failure is not None:  # scripts see it by the exit code
        from gradients.client.answers import ApiRefused

        raise ApiRefused(f"{task.id} has failed: {task.failure.message}", code=task.failure.code)


@app.command()
def events(
    task_id: TaskArgument,
    after: Annotated[int, typer.Option(min=0, help="The last event that you have seen; those after it are shown.")] = 0,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """What happens to a task, event by event, until it has ended; what has happened already comes first."""
    with market(url, key) as client:
        for event in client.events(task_id, after=after):
            typer.echo(as_json_text(event) if as_json else _event_line(event))


for command in (
    *(account.account, rewards.rewards, rows.rows, uploads.upload, uploads.uploads),
    *(models.download, models.sheet, models.chat, models.compare, models.export, models.push),
):
    app.command()(command)
app.add_typer(account.key_app, name="key")
app.command("generate", help="The same as chat.")(models.chat)


def _progress_line(task: TaskDetails) -> str:
    """The state of a task and of everybody who trains it."""
    line = f"{task.state:<10} "
    for miner in task.miners:
        progress = miner.progress
        doing = f"{progress.phase} {progress.fraction:.0%}" if progress else miner.state
        line += f"  uid {miner.uid} {doing}"
    return line


def _event_line(event: TaskEvent | TaskProgress) -> str:
    """An event in a line: its number, its time, and what it says."""
    from gradients.client.models import TaskEvent

    if not isinstance(event, TaskEvent):
        doing = (f"{hotkey[:8]} {said.phase} {said.fraction:.0%}" for hotkey, said in event.miners.items())
        return f"{'-':>6}  " + "  ".join(doing)
    when = datetime.fromtimestamp(event.at).astimezone()
    said = " ".join(str(word) for word in (event.kind, event.state, event.hotkey, event.submission) if word)
    return f"{event.id:>6}  {when:%Y-%m-%d %H:%M:%S}  {said}"


def _print_task(task: TaskDetails) -> None:
    from gradients.client.render import console, lineage_text, result_table, task_table, times_text

    terminal = console()
    terminal.print(task_table([task]))
    if task.lineage:
        terminal.print(lineage_text(task))
    if due := times_text(task):
        terminal.print(due)
    if task.miners:
        terminal.print(result_table(task))
