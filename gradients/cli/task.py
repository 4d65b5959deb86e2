"""`gradients task`: the customers' commands. HTTP client and settings are imported when a command runs: help needs neither."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli import models
from gradients.cli.customer import AsJson, Key, TaskArgument, Url, market
from gradients.domain.json import Json
from gradients.errors import SetupError, TaskInvalid

if TYPE_CHECKING:
    from gradients.client.models import Answer, TaskDetails

app = typer.Typer(help="Post tasks, watch them, get and try the models.", no_args_is_help=True, rich_markup_mode=None)

Type = Annotated[str | None, typer.Option("--type", help="Kind of fine-tuning, such as instruct.")]
Base = Annotated[str | None, typer.Option(help="nano-lm, smollm2, a Hub id (org/name@revision).")]
Dataset = Annotated[
    str | None,
    typer.Option(
        help="A JSON, JSONL, CSV, Parquet or zip file, a folder of images or one that `datasets` saved, "
        "hub:org/name@revision#split, an https:// URL, or s3://bucket/key."
    ),
]
Spec = Annotated[
    Path | None, typer.Option("--spec", help="The whole task as a TOML or JSON file; options given here win.")
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter of the task type, such as columns.output=answer; may be repeated."),
]


@app.command()
def submit(
    type: Type = None,  # noqa: A002
    base: Base = None,
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
    spec = _spec(spec_file, parameters, type=type, base=base, dataset=dataset, hours=hours)
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
    typer.echo(_json(task) if as_json else f"{task.id} is posted; follow it with `gradients task watch {task.id}`")


@app.command()
def estimate(
    type: Type = None,  # noqa: A002
    base: Base = None,
    dataset: Dataset = None,
    spec_file: Spec = None,
    parameters: Parameters = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """What a task would take: rows, tokens, speed and hours. Nothing is posted."""
    spec = _spec(spec_file, parameters, type=type, base=base, dataset=dataset)
    with market(url, key) as client:
        found = client.estimate(spec)
    if as_json:
        typer.echo(_json(found))
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
    typer.echo(_json(task) if as_json else f"{task.id} is cancelled")


@app.command()
def account(url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Whose API key this is, what it may be used for, and how much of each limit is used."""
    with market(url, key) as client:
        found = client.account()
    if as_json:
        typer.echo(_json(found))
        return
    tasks, held = found.running_tasks, found.upload_bytes
    typer.echo(f"{found.customer}, key {found.key.id} {found.key.name} ({', '.join(found.key.scopes)})")
    typer.echo(f"{tasks.used} of {tasks.most} running tasks, {held.used:,} of {held.most:,} bytes of uploads")
    typer.echo(f"{found.requests_per_minute} requests a minute")


@app.command()
def show(task_id: TaskArgument, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """One task: its state, data, miners and results."""
    with market(url, key) as client:
        task = client.task(task_id)
    if as_json:
        typer.echo(_json(task))
    else:
        _print_task(task)


@app.command()
def watch(task_id: TaskArgument, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Follow a task until it has ended; with --json one line per change."""
    last, task = "", None
    with market(url, key) as client:
        for task in client.watch(task_id):
            line = _json(task) if as_json else _progress_line(task)
            if line != last:
                typer.echo(line)
            last = line
    if task is not None and not as_json:
        _print_task(task)
    if task is not None and task.failure is not None:  # scripts see it by the exit code
        from gradients.client.answers import ApiRefused

        raise ApiRefused(f"{task.id} has failed: {task.failure.message}", code=task.failure.code)


for command in (models.download, models.sheet, models.chat, models.compare, models.export, models.push):
    app.command()(command)
app.command("generate", help="The same as chat.")(models.chat)


def _spec(spec_file: Path | None, parameters: Sequence[str] | None, **given: Json) -> dict[str, Json]:
    """The spec of the file, with what was given beside it."""
    spec: dict[str, Json] = {
        **(_read_spec(spec_file) if spec_file else {}),
        **{k: v for k, v in given.items() if v is not None},
    }
    for assignment in parameters or []:
        known = spec.get("parameters", {})
        if not isinstance(known, Mapping):
            raise TaskInvalid(
                f"`parameters` in {spec_file} is not a table", fix="Write the type's parameters there by name"
            )
        spec["parameters"] = _assigned(known, assignment)
    try:
        json.dumps(spec, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TaskInvalid(
            f"The task has a value that JSON cannot express: {error}", fix="Use texts, numbers and lists"
        ) from error
    return spec


def _read_spec(file: Path) -> dict[str, Json]:
    try:
        text = file.read_text(encoding="utf-8")
        spec: object = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise SetupError(f"The task file {file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise TaskInvalid(f"{file} is not valid {file.suffix.lstrip('.').upper()}: {error}") from error
    if not isinstance(spec, dict):
        raise TaskInvalid(f"{file} does not hold a task", fix='Write one object: {"type": …, "base": …, "dataset": …}')
    return spec


def _assigned(parameters: Mapping[str, Json], assignment: str) -> dict[str, Json]:
    """`parameters` with "a.b=value" put in; the value is JSON where it reads as such, else text."""
    path, equals, text = assignment.partition("=")
    if not equals:
        raise TaskInvalid(f"--set {assignment} has no value", fix="Write it as name=value")
    try:
        value: Json = json.loads(text)
    except ValueError:
        value = text
    head, _, rest = path.partition(".")
    if not rest:
        return {**parameters, head: value}
    inner = parameters.get(head, {})
    return {**parameters, head: _assigned(inner if isinstance(inner, Mapping) else {}, f"{rest}={text}")}


def _progress_line(task: TaskDetails) -> str:
    """The state of a task and of everybody who trains it."""
    line = f"{task.state:<10} "
    for miner in task.miners:
        progress = miner.progress
        doing = f"{progress.phase} {progress.fraction:.0%}" if progress else miner.state
        line += f"  uid {miner.uid} {doing}"
    return line


def _print_task(task: TaskDetails) -> None:
    from gradients.client.render import console, result_table, task_table, times_text

    terminal = console()
    terminal.print(task_table([task]))
    if due := times_text(task):
        terminal.print(due)
    if task.miners:
        terminal.print(result_table(task))


def _json(answer: Answer) -> str:
    return json.dumps(answer.model_dump(mode="json"))
