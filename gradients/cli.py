"""The command `gradients`. Only the subcommand that is asked for is imported, so that `gradients --help` answers at once."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from gradients import __version__
from gradients.errors import GradientsError

SUBCOMMANDS = {
    "localnet": ("gradients.localnet.cli:app", "Run the whole market on this machine."),
    "localchain": ("gradients.localchain.cli:localchain", "Run a loopback chain for the SDK and btcli."),
    "register": ("gradients.registration:app", "Register a hotkey on the subnet by burn."),
    "validator": ("validator.cli:app", "Run a validator, and manage its API keys."),
    "miner": ("miner.cli:app", "Run the reference miner."),
    "task": ("gradients.client.cli:app", "Post tasks, watch them, get and try the models."),
    "doctor": ("gradients.doctor:app", "Check what this machine has and lacks."),
}
EXIT_FAILED = 1


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
        elif isinstance(command := _imported(target), typer.Typer):
            root.add_typer(command, name=name, help=summary)
        else:
            root.command(name)(command)
    return root


def main() -> None:
    """Entry point of the console script: a failure that the project names is one line (or one JSON object) and exit code 1."""
    arguments = sys.argv[1:]
    try:
        build(arguments)(args=arguments, prog_name="gradients")
    except GradientsError as error:
        _complain(error, as_json="--json" in arguments)
        sys.exit(EXIT_FAILED)


def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _unreachable() -> None:
    raise AssertionError("a subcommand that was not named cannot run")


def _imported(target: str) -> typer.Typer | Callable[..., None]:
    """A group of commands, or a single one as a function."""
    module, attribute = target.split(":")
    command: typer.Typer | Callable[..., None] = getattr(importlib.import_module(module), attribute)
    return command


def _complain(error: GradientsError, *, as_json: bool) -> None:
    if as_json:
        failure = {"error": {"code": error.code, "blame": error.blame, "message": error.message, "fix": error.fix}}
        typer.echo(json.dumps(failure))
    typer.secho(f"gradients: {error}", err=True, fg=typer.colors.RED)


if __name__ == "__main__":
    main()
