"""The customers' commands on trained models: get them, try them, take them elsewhere. Part of `gradients task`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer

from gradients.cli.customer import AsJson, Key, TaskArgument, Url, market, shelf

Miner = Annotated[str | None, typer.Option(help="A miner's hotkey; by default the best one.")]


def download(
    task_id: TaskArgument,
    folder: Annotated[
        Path | None, typer.Option("--to", help="Where to put its folder; by default ~/.gradients/models.")
    ] = None,
    miner: Miner = None,
    with_base: Annotated[
        bool | None,
        typer.Option(
            "--with-base/--without-base",
            help="Whether to put an adapter's base beside it; by default where the base can be had from no hub.",
            show_default=False,
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Download a model of a scored task, the best one by default."""
    from gradients.client.delivery import bring

    with market(url, key) as client:
        target = bring(client, task_id, shelf(folder), miner=miner, with_base=with_base)
    typer.echo(json.dumps({"folder": str(target)}) if as_json else f"The model lies in {target}")


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
    with market(url, key) as client:
        target = client.contact_sheet(task_id, (file or Path(f"contact-sheet-{task_id}.png")).expanduser())
    typer.echo(json.dumps({"file": str(target)}) if as_json else f"The sheet lies in {target}")


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
    from gradients.client.delivery import bring
    from gradients.texts import harmless

    models = shelf()
    if models.find(task_id) is None:
        with market(url, key) as client:
            bring(client, task_id, models)
    talk = Conversation.with_model(models.get(task_id), max_new_tokens=max_new_tokens, temperature=temperature)
    with contextlib.suppress(typer.Abort):  # of a prompt: the user leaves
        while asked := prompt or str(typer.prompt("you", prompt_suffix="> ")):
            answers = talk.ask(asked)
            side_by_side = "\n".join(
                f"{who:>7}: {harmless(answer, most=100_000, lines=True)}" for who, answer in answers.items()
            )
            typer.echo(json.dumps({"prompt": asked, **answers}) if as_json else side_by_side)
            if prompt:
                return
