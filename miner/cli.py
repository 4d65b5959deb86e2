"""`gradients miner`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli.doctor import AsJson, Fix, examined
from gradients.cli.flags import DAEMON, FOLDER, Given, takes

if TYPE_CHECKING:
    from miner.fitting import Fitted
    from miner.memory import Memory

EXIT_UNPAID = 3
Recipe = Annotated[
    Path | None, typer.Option(help="How to train: a shipped recipe's name, such as lora-tuned, or a file.")
]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def miner() -> None:
    """The reference miner: takes tasks, trains inside their time, commits and serves the model."""


@app.command()
@takes(DAEMON)
def run(
    given: Given,
    recipe: Recipe = None,
) -> None:
    """Run a miner until it is stopped. Flags win over GRADIENTS_* variables, those over BT_*, those over the file."""
    from gradients.cli.daemon import run_daemon, settle
    from miner.settings import MinerSettings

    settings = given.load(MinerSettings, recipe=recipe)

    async def daemon() -> None:
        # Imported once the settings are known to be good: chain and server take a second.
        from miner.daemon import run_until_signalled
        from miner.wiring import build

        miner = build(settings)
        settle()
        await run_until_signalled(miner)

    run_daemon(settings, daemon, what="miner")


@app.command()
@takes(DAEMON)
def doctor(
    given: Given,
    *,
    recipe: Recipe = None,
    fix: Fix = False,
    as_json: AsJson = False,
) -> None:
    """Check everything that a miner with these settings needs, and say how to mend what is not in order.

    Name the same flags as for `run`. The exit code is 1 when something would keep it from its work.
    """
    from gradients.clock import SystemClock
    from miner.doctor import examine_miner
    from miner.settings import MinerSettings

    settings = given.load(MinerSettings, recipe=recipe)
    examined(lambda: examine_miner(settings, SystemClock()), fix=fix, as_json=as_json)


@app.command()
@takes(FOLDER)
def plan(
    given: Given,
    *,
    task: Annotated[Path | None, typer.Option(help="A JSON file with the task: type, base, rows, hours.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Task type; the first of all by default.")] = None,
    base: Annotated[str | None, typer.Option(help="The base, as offers name it.")] = None,
    parameters: Annotated[float | None, typer.Option(help="Weights of the base instead, such as 7e9.")] = None,
    rows: Annotated[int | None, typer.Option(help="Train rows; 10,000 by default.")] = None,
    hours: Annotated[float | None, typer.Option(help="The task's hours; 2 by default.")] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="On which GPU: h100, rtx4090 or GiB, or several: h100:8, 8x80; by default what is here.",
            show_default=False,
        ),
    ] = None,
    recipe: Recipe = None,
    as_json: AsJson = False,
) -> None:
    """Show how a task would be trained here or on some GPU: method, micro-batch, memory and time, and why. Nothing is trained.

    The exit code is 1 when the task would be declined because it does not fit.
    """
    from gradients.bases.bases import BaseModels
    from gradients.tasks.footprint import like_others
    from gradients.tasks.picture_footprint import Size, size_in
    from miner import plan_text
    from miner.fitting import Known, fitted_plan
    from miner.journal import Journal
    from miner.plan import read_recipe
    from miner.settings import MinerSettings
    from miner.wiring import allowed_memory

    settings = given.load(MinerSettings, recipe=recipe)
    asked = plan_text.read_task(task, type=kind, base=base, parameters=parameters, rows=rows, hours=hours)
    memory = plan_text.memory_of(gpu) if gpu else allowed_memory(settings).share(settings.concurrent_tasks)
    if asked.base is not None:
        known = BaseModels.default(settings.caches, folders=settings.allow_local_paths).resolve(asked.base)
        shape: Size = size_in(known.folder, known.parameters)
    else:
        shape = like_others(int(asked.parameters or 0))
    done = [] if gpu else Journal(settings.folder / "tasks").all()
    past = [each.speed for each in done if each.speed is not None and each.start.offer.type == asked.type]
    told = Known(asked.own)

    def fitted_to(memory: Memory) -> Fitted:
        chosen = read_recipe(settings.recipe)
        return fitted_plan(chosen, kind=asked.type, shape=shape, memory=memory, known=told, past=past)

    fitted, gpus = fitted_to(memory), plan_text.gpus_in(gpu)
    spread = fitted_to(replace(memory, devices=gpus)) if gpus > 1 else None
    pace = plan_text.pace_of(asked, shape, fitted, memory, gpu=gpu, cores=settings.threads, past=past)
    if as_json:
        typer.echo(json.dumps(plan_text.as_json(asked, shape, fitted, memory, spread=spread, pace=pace)))
    else:
        for line in plan_text.as_text(asked, shape, fitted, memory, spread=spread, pace=pace):
            typer.echo(line)
    if not fitted.fits:
        raise typer.Exit(1)


@app.command()
@takes(FOLDER)
def check(
    given: Given,
    *,
    model: Annotated[Path, typer.Argument(help="The folder with the model's files, as it would be handed in.")],
    task: Annotated[
        Path,
        typer.Option(help="A task of this miner by its id, its record.json, or JSON with type, base and parameters."),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Rows to measure on; by default train.jsonl beside the task's file.")
    ] = None,
    against: Annotated[
        list[Path] | None, typer.Option(help="A model that was committed earlier, to look for a copy; repeatable.")
    ] = None,
    rows: Annotated[int, typer.Option(min=2, help="Rows to measure on at most.")] = 48,
    recipe: Recipe = None,
    as_json: AsJson = False,
) -> None:
    """Say what a validator would make of a model: refused by which rule, or its result beside the base's, and whether it would count.

    Files, header, config and tensors are screened, and base and model measured, by the validator's own code. Of the task's train rows only
    those count that the recipe keeps from training. The exit code is 1 when the model would be refused, 3 when it would not be paid.
    """
    from gradients.bases.bases import BaseModels
    from gradients.bases.continued import pinned
    from gradients.config import device_environment
    from gradients.execution.process import ProcessExecutor
    from miner import check_text
    from miner.check import checked
    from miner.checked_task import CheckedTask
    from miner.plan import plan_training, read_recipe
    from miner.settings import MinerSettings

    settings = given.load(MinerSettings, recipe=recipe)
    record = settings.folder / "tasks" / task / "record.json"
    asked = CheckedTask.read(task := record if record.is_file() and not task.exists() else task)
    base = BaseModels.default(settings.caches, folders=True).resolve(pinned(asked.base, asked.base_digest))
    plan = plan_training(read_recipe(settings.recipe), task_type=asked.type, base_parameters=base.parameters)
    report = checked(
        model.absolute(),
        asked,
        base,
        ProcessExecutor(environment=device_environment()),
        data=(data or task.parent / "train.jsonl").absolute(),
        against=[each.absolute() for each in against or ()],
        kept_share=plan.validation_fraction,
        rows=rows,
        threads=settings.threads,
    )
    if as_json:
        typer.echo(json.dumps(check_text.as_json(report)))
    else:
        for line in check_text.as_text(report):
            typer.echo(line)
    if not report.counts:
        raise typer.Exit(EXIT_UNPAID)


@app.command()
@takes(FOLDER)
def results(
    given: Given,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Show what became of every task: held-out result, rank, chance of being the best model, prize, share of the weights, and why.

    These are the validators' own words, as the miner has asked for them; name the same --config or --folder as where the miner runs.
    """
    from gradients.errors import SetupError
    from miner.journal import Journal
    from miner.results import as_json as shown
    from miner.results import results_table
    from miner.settings import MinerSettings

    folder = given.load(MinerSettings).folder / "tasks"
    if not folder.is_dir():
        raise SetupError(
            f"There is no miner's journal at {folder}", fix="Name the miner's --folder or --config, or start it first"
        )
    records = Journal(folder).all()
    if as_json:
        typer.echo(json.dumps({"tasks": [shown(record) for record in records]}))
        return
    from gradients.client.render import console

    console().print(results_table(records))
