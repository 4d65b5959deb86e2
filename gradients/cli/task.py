"""`gradients task`: the customers' commands."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from gradients.client.api import ApiRefused, connect
from gradients.client.shelf import Shelf
from gradients.config import CustomerSettings
from gradients.domain.json import Json, JsonObject
from gradients.domain.task import TaskState
from gradients.errors import SetupError, TaskInvalid

app = typer.Typer(help="Post tasks, watch them, get and try the models.", no_args_is_help=True, rich_markup_mode=None)

Url = Annotated[str | None, typer.Option("--api-url", help="The validator's API. [env: GRADIENTS_API_URL]")]
Key = Annotated[
    str | None,
    typer.Option(
        "--api-key", help="Your API key; by default the one of a validator on this machine. [env: GRADIENTS_API_KEY]"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
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
TaskArgument = Annotated[str, typer.Argument(help="The task's id, as `gradients task list` shows it.")]


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
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Post a task: say what to train, on which rows, for how long."""
    spec = _spec(spec_file, parameters, type=type, base=base, dataset=dataset, hours=hours)
    with connect(CustomerSettings().given(url=url, key=key)) as client:
        if "hours" not in spec:
            spec = client.uploaded(spec)
            spec["hours"] = _agreed_hours(client.estimate(spec), asks=not (yes or as_json), tells=not as_json)
        task = client.submit(spec)
    typer.echo(
        json.dumps(task) if as_json else f"{task['id']} is posted; follow it with `gradients task watch {task['id']}`"
    )


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
    with connect(CustomerSettings().given(url=url, key=key)) as client:
        found = client.estimate(spec)
    if as_json:
        typer.echo(json.dumps(found))
        return
    from gradients.client.render import estimate_text

    typer.echo(estimate_text(found))


@app.command("list")
def list_tasks(url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Your tasks, newest first."""
    with connect(CustomerSettings().given(url=url, key=key)) as client:
        tasks = client.tasks()
    if as_json:
        typer.echo(json.dumps(tasks))
        return
    from rich.console import Console

    from gradients.client.render import task_table

    Console().print(task_table(tasks))


@app.command()
def show(task_id: TaskArgument, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """One task: its state, data, miners and results."""
    with connect(CustomerSettings().given(url=url, key=key)) as client:
        _print_task(client.task(task_id), as_json=as_json)


@app.command()
def watch(task_id: TaskArgument, url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Follow a task until it has ended; with --json one line per change."""
    last, task = "", None
    with connect(CustomerSettings().given(url=url, key=key)) as client:
        for task in client.watch(task_id):
            line = json.dumps(task) if as_json else _progress_line(task)
            if line != last:
                typer.echo(line)
            last = line
    if task is not None:
        _end_watch(task, as_json=as_json)


@app.command()
def download(
    task_id: TaskArgument,
    folder: Annotated[
        Path | None, typer.Option("--to", help="Where to put it; by default ~/.gradients/models.")
    ] = None,
    miner: Annotated[str, typer.Option(help="Whose model: a hotkey, or best.")] = "best",
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Download a model of a scored task, the best one by default."""
    settings = CustomerSettings().given(url=url, key=key)
    target = _fetch(settings, task_id, miner, Shelf((folder or settings.models).expanduser()))
    typer.echo(json.dumps({"folder": str(target)}) if as_json else f"The model lies in {target}")


@app.command()
def sheet(
    task_id: TaskArgument,
    file: Annotated[
        Path | None, typer.Option("--to", help="Where to put it; by default contact-sheet-<task>.png here.")
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Download the picture of what base and miners made of a scored task's held-out images."""
    with connect(CustomerSettings().given(url=url, key=key)) as client:
        target = client.contact_sheet(task_id, (file or Path(f"contact-sheet-{task_id}.png")).expanduser())
    typer.echo(json.dumps({"file": str(target)}) if as_json else f"The sheet lies in {target}")


@app.command()
def chat(
    task_id: TaskArgument,
    prompt: Annotated[
        str | None, typer.Option(help="One prompt; without it prompts are read from the terminal.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 takes the likeliest word each time.")] = 0.0,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Ask the base model and the winner the same thing, side by side."""
    from gradients.client.chat import Conversation

    settings = CustomerSettings().given(url=url, key=key)
    shelf = Shelf(settings.models.expanduser())
    if (model := shelf.find(task_id)) is None:
        _fetch(settings, task_id, "best", shelf)
        model = shelf.find(task_id)
    assert model is not None  # noqa: S101 (for the type checker: it was just put there)
    talk = Conversation.with_model(model, max_new_tokens=max_new_tokens, temperature=temperature)
    while (asked := prompt or _next_prompt()) is not None:
        answers = talk.ask(asked)
        typer.echo(json.dumps({"prompt": asked, **answers}) if as_json else _side_by_side(answers))
        if prompt:
            return


app.command("generate", help="The same as chat.")(chat)


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
            f"The task holds what JSON has no form for: {error}", fix="Use texts, numbers and lists"
        ) from error
    return spec


def _agreed_hours(estimate: JsonObject, *, asks: bool, tells: bool) -> Json:
    """The estimated hours, once the customer has seen them and agreed. Aborts when the customer does not."""
    from gradients.client.render import estimate_text

    if tells:
        typer.echo(estimate_text(estimate))
    if asks:
        typer.confirm("Post the task?", default=True, abort=True)
    return estimate["hours"]


def _end_watch(task: JsonObject, *, as_json: bool) -> None:
    """The last words about a task. Raises ApiRefused when it has failed, so that scripts see it."""
    if not as_json:
        _print_task(task, as_json=False)
    if task["state"] == TaskState.FAILED:
        failure = cast(Mapping[str, str] | None, task["failure"]) or {}
        raise ApiRefused(f"{task['id']} has failed: {failure.get('message')}", code=failure.get("code"))


def _fetch(settings: CustomerSettings, task_id: str, miner: str, shelf: Shelf) -> Path:
    with connect(settings) as client:
        task = client.task(task_id)
        with shelf.adding(task) as folder:
            client.download(task_id, miner, folder)
    return shelf.folder(task)


def _next_prompt() -> str | None:
    try:
        return str(typer.prompt("you", prompt_suffix="> ")) or None
    except typer.Abort:
        return None


def _side_by_side(answers: Mapping[str, str]) -> str:
    return "\n".join(f"{who:>7}: {answer}" for who, answer in answers.items())


def _read_spec(file: Path) -> dict[str, Json]:
    try:
        text = file.read_text(encoding="utf-8")
        spec: object = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise SetupError(f"The task file {file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise TaskInvalid(f"{file} is no valid {file.suffix.lstrip('.').upper()}: {error}") from error
    if not isinstance(spec, dict):
        raise TaskInvalid(f"{file} holds no task", fix='Write one object: {"type": …, "base": …, "dataset": …}')
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


def _progress_line(task: JsonObject) -> str:
    miners = cast(list[JsonObject], task["miners"])
    return f"{task['state']:<10} " + "  ".join(_miner_word(miner) for miner in miners)


def _miner_word(miner: JsonObject) -> str:
    progress = cast(JsonObject | None, miner["progress"])
    if progress is None:
        return f"uid {miner['uid']} {miner['state']}"
    done = cast(float, progress["fraction"])
    return f"uid {miner['uid']} {progress['phase']} {done:.0%}"


def _print_task(task: JsonObject, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(task))
        return
    from rich.console import Console

    from gradients.client.render import result_table, task_table

    console = Console()
    console.print(task_table([task]))
    if task["miners"]:
        console.print(result_table(task))
