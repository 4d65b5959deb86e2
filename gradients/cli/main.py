"""The command `gradients`. Only the subcommand that is asked for is imported, so that `gradients --help` answers at once."""

from __future__ import annotations

import gc
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from gradients import __version__
from gradients.errors import CustomerError, DiskFull, GradientsError, SetupError
from gradients.extras import how_to_install
from gradients.files.disk import is_full

# name -> a group of commands, or a single one as a function, and what it does
SUBCOMMANDS = {
    "localnet": ("gradients.cli.localnet:localnet", "Run the whole market on this machine."),
    "localchain": ("gradients.cli.localchain:app", "Run a loopback chain for the SDK and btcli; fund accounts on it."),
    "init": ("gradients.cli.init:app", "Write the settings file of a validator or a miner."),
    "register": ("gradients.cli.register:register", "Register a hotkey on the subnet by burn."),
    "backup": ("gradients.cli.backup:backup", "Copy what a validator or a miner keeps; it may be at work."),
    "restore": ("gradients.cli.backup:restore", "Make a daemon's folder and ledger again from a backup."),
    "upgrade": ("gradients.cli.upgrade:upgrade", "Install another version, with a way back."),
    "subnet": ("gradients.cli.subnet:app", "Check a subnet's hyperparameters, for its owner."),
    "validator": ("validator.cli:app", "Run a validator, and manage its API keys."),
    "weights": ("validator.weights_cli:app", "Show every number that led to a validator's weights."),
    "miner": ("miner.cli:app", "Run the reference miner, and see what its tasks have brought."),
    "repo": ("gradients.cli.repo:app", "Check a model repo as a validator would read it."),
    "task": ("gradients.cli.task:app", "Post tasks, watch them, get and try the models."),
    "audit": ("gradients.cli.audit:audit", "Check a validator from its public record and the chain."),
    "record": ("gradients.cli.record:app", "Copy a validator's public record."),
    "simulate": (
        "gradients.cli.simulate:simulate",
        "Play a market against the rules of pay: who is paid, and for what.",
    ),
    "cache": ("gradients.cli.cache:app", "List the base models on this machine, and make room."),
    "worker": ("gradients.cli.worker:app", "Check a box that lends its GPUs to a validator through a Ray cluster."),
    "doctor": ("gradients.cli.doctor:doctor", "Check what this machine has and lacks."),
}
EXIT_FAILED, EXIT_USAGE = 1, 2
USUAL_COLLECTIONS = gc.get_threshold()
FEW_COLLECTIONS = 50_000  # new objects: what imports make stays, and looking through it is a fifth of a daemon's start
EXTRA_OF = {
    "PIL": "image",
    "websockets": "localnet",
    "kyber_py": "localnet",
    "Crypto": "localnet",
    "xxhash": "localnet",
}  # import name -> extra that brings it


def build(arguments: Sequence[str]) -> typer.Typer:
    """The command tree; of the subcommands only the one that `arguments` name is real, the others are known by their summary."""
    root = typer.Typer(
        name="gradients",
        help="A market for fine-tuning on Bittensor: miners compete, validators measure on held-out data, the chain pays.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    root.callback(invoke_without_command=True)(_root)
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for name, (target, summary) in SUBCOMMANDS.items():
        if name != wanted:
            root.command(name, help=summary)(_unreachable)
            continue
        module, attribute = target.split(":")
        command: typer.Typer | Callable[..., None] = getattr(importlib.import_module(module), attribute)
        if isinstance(command, typer.Typer):
            root.add_typer(command, name=name, short_help=summary)
        else:
            root.command(name, short_help=summary)(command)
    return root


def main() -> None:
    """Entry point of the console script: a failure that the project names is one line and exit code 1; with --json also one object."""
    gc.set_threshold(FEW_COLLECTIONS, *USUAL_COLLECTIONS[1:])
    arguments = sys.argv[1:]
    as_json = "--json" in arguments
    try:
        build(arguments)(args=arguments, prog_name="gradients")
    except SystemExit as ending:
        if ending.code == EXIT_USAGE and as_json:
            _print_json(CustomerError("The command line is not usable", code="usage", fix="Standard error says why"))
        raise
    except Exception as error:
        if (named := _named(error)) is None:
            raise
        if as_json:
            _print_json(named)
        typer.secho(f"gradients: {' '.join(str(named).split())}", err=True, fg=typer.colors.RED)
        sys.exit(EXIT_FAILED)


def _named(error: BaseException) -> GradientsError | None:
    """What the project calls the failure, or None for one that it has no name for and that should show where it happened."""
    if isinstance(error, GradientsError):
        return error
    if isinstance(error, OSError) and is_full(error):
        return DiskFull(f"There is no room for {error.filename or 'a file'}", fix="Free some space")
    if isinstance(error, ModuleNotFoundError) and (extra := EXTRA_OF.get((error.name or "").partition(".")[0])):
        return SetupError(f"{error.name} is not installed", fix=how_to_install(extra))
    if isinstance(error, BaseExceptionGroup):  # of a daemon's loops: the first that is named, if all are
        names = [_named(each) for each in error.exceptions]
        return names[0] if all(names) else None
    return None


def _print_json(error: GradientsError) -> None:
    said = {"code": error.code, "blame": error.blame, "message": error.message, "fix": error.fix}
    typer.echo(json.dumps({"error": said}))


def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _unreachable() -> None:
    raise AssertionError("a subcommand that was not named cannot run")
