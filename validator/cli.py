"""`gradients validator`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli.doctor import AsJson, Fix, examined
from gradients.cli.flags import DAEMON, FOLDER, Given, takes

if TYPE_CHECKING:
    from validator.ledger import Ledger
    from validator.settings import ValidatorSettings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def validator() -> None:
    """Post tasks to miners, measure what they trained on held-out data, and set weights on chain."""


@app.command()
@takes(DAEMON)
def run(
    given: Given,
    api_host: Annotated[str | None, typer.Option(help="Interface of the customers' API.")] = None,
    api_port: Annotated[int | None, typer.Option(help="Port of the customers' API.")] = None,
) -> None:
    """Run a validator until it is stopped. Flags win over GRADIENTS_* variables, those over BT_*, those over the file."""
    from gradients.cli.daemon import run_daemon
    from validator.settings import ValidatorSettings

    settings = given.load(ValidatorSettings, api__host=api_host, api__port=api_port)

    async def daemon() -> None:
        # Imported once the settings are known to be good: chain, ledger and server take a second.
        from validator.daemon import run_until_signalled
        from validator.wiring import build

        await run_until_signalled(build(settings))

    run_daemon(settings, daemon, what="validator")


@app.command()
@takes(DAEMON)
def doctor(
    given: Given,
    *,
    api_host: Annotated[str | None, typer.Option(help="Interface of the customers' API.")] = None,
    api_port: Annotated[int | None, typer.Option(help="Port of the customers' API.")] = None,
    fix: Fix = False,
    as_json: AsJson = False,
) -> None:
    """Check everything that a validator with these settings needs, and say how to mend what is not in order.

    Name the same flags as for `run`. The exit code is 1 when something would keep it from its work.
    """
    from gradients.clock import SystemClock
    from validator.doctor import examine_validator
    from validator.settings import ValidatorSettings

    settings = given.load(ValidatorSettings, api__host=api_host, api__port=api_port)
    examined(lambda: examine_validator(settings, SystemClock()), fix=fix, as_json=as_json)


@app.command()
@takes(FOLDER)
def key(
    given: Given,
    *,
    customer: Annotated[str | None, typer.Argument(help="Whose key it is; any name.", show_default=False)] = None,
    revoke: Annotated[str | None, typer.Option(help="Make this key useless instead of making a new one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Make an API key for a customer, or revoke one. A new key is shown once and kept as a digest.

    Works on the ledger of a validator that was started before: name the same --config or --folder as there.
    """
    from gradients.errors import SetupError
    from validator.settings import ValidatorSettings

    if (customer is None) is (revoke is None):
        raise typer.BadParameter("Name a customer to make a key for, or a key to --revoke, and not both")
    ledger, shown = known_ledger(given.load(ValidatorSettings))
    customers = ledger.customers

    if customer is not None:
        made = customers.issue(customer)
        typer.echo(json.dumps({"customer": customer, "key": made, "ledger": shown}) if as_json else made)
        typer.echo(f"Its digest is in {shown}", err=True)
        return
    if revoke is None or (owner := customers.revoke(revoke)) is None:
        raise SetupError(f"The key opens nothing in {shown}", fix="Give the whole key as it was shown")
    result = {"customer": owner, "revoked": True, "ledger": shown}
    typer.echo(json.dumps(result) if as_json else f"The key of {owner} opens nothing any more in {shown}")


@app.command()
@takes(FOLDER)
def migrate(given: Given, *, as_json: AsJson = False) -> None:
    """Bring the ledger to this version's schema, as `run` does at its start. Back it up first: there is no way back but a backup."""
    from validator.settings import ValidatorSettings

    _, shown = known_ledger(given.load(ValidatorSettings))
    typer.echo(json.dumps({"ledger": shown}) if as_json else f"{shown} has this version's schema")


@app.command()
@takes(FOLDER)
def prune(
    given: Given,
    *,
    dry_run: Annotated[bool, typer.Option(help="Drop nothing, and say what would go.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Drop models, rows and uploads that nobody needs any more, as [keep] in the settings says; a running validator does so each hour."""
    from gradients.clock import SystemClock
    from gradients.repo.store import ContentStore
    from validator.api.uploads import Uploads
    from validator.folders import Folders
    from validator.pruning import Pruner
    from validator.settings import ValidatorSettings

    settings = given.load(ValidatorSettings)
    ledger, _ = known_ledger(settings)
    folders, api = Folders(settings.folder), settings.api
    uploads = Uploads(folders.uploads, ledger.uploads, api.max_upload_bytes, api.max_upload_bytes_per_customer)
    pruner = Pruner(ledger, folders, ContentStore(folders.blobs), uploads, SystemClock(), settings.keep)
    pruned = pruner.prune(only_look=dry_run)
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "bytes": pruned}))
        return
    for kind, size in pruned.items():
        typer.echo(f"{kind}: {size:,} bytes {'would go' if dry_run else 'are gone'}")


def known_ledger(settings: ValidatorSettings) -> tuple[Ledger, str]:
    """The ledger of a validator that was started before, and where it is, without a password. Raises SetupError when there is none."""
    from gradients.clock import SystemClock
    from gradients.errors import SetupError
    from validator.ledger import Ledger

    url = settings.resolved_ledger_url()
    address = url.partition("?")[0]
    shown = address.rpartition("@")[2]
    if url.startswith("sqlite"):
        shown = address.partition(":///")[2]
        if not Path(shown).is_file():
            raise SetupError(
                f"There is no validator's ledger at {shown}",
                fix="Name the validator's --folder or --config, or start it first",
            )
    return Ledger.open(url, SystemClock()), shown
