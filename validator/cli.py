"""`gradients validator`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli.doctor import AsJson, Fix, examined
from gradients.cli.flags import DAEMON, FOLDER, Given, takes

if TYPE_CHECKING:
    from validator.ledger import Ledger
    from validator.ledger.customers import KnownKey
    from validator.settings import ValidatorSettings

DAY = 86_400.0

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
    from gradients.cli.daemon import run_daemon, settle
    from validator.settings import ValidatorSettings

    settings = given.load(ValidatorSettings, api__host=api_host, api__port=api_port)

    async def daemon() -> None:
        # Imported once the settings are known to be good: chain, ledger and server take a second.
        from validator.daemon import run_until_signalled
        from validator.wiring import build

        validator = build(settings)
        settle()
        await run_until_signalled(validator)

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
    name: Annotated[str, typer.Option(help="What the key is for, to know it in a list.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="read, submit or admin (which makes keys of its own); may be repeated. By default read and submit."
        ),
    ] = None,
    days: Annotated[float | None, typer.Option(min=0.001, max=3650, help="After how many days it expires.")] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="Show the keys there are, of the customer or of all.")
    ] = False,
    revoke: Annotated[str | None, typer.Option(help="Make this key useless instead of making a new one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Make an API key for a customer, list or revoke keys. A new key is shown once and kept as a digest.

    Works on the ledger of a validator that was started before: name the same --config or --folder as there.
    """
    from gradients.domain.customer import USUAL_SCOPES, Scope
    from gradients.errors import SetupError
    from validator.settings import ValidatorSettings

    if not list_all and (customer is None) is (revoke is None):
        raise typer.BadParameter("Name a customer to make a key for, or a key to --revoke, and not both")
    if unknown := [each for each in scope or () if each not in tuple(Scope)]:
        raise typer.BadParameter(f"There is no scope {unknown[0]!r}; choose from {', '.join(Scope)}")
    ledger, shown = known_ledger(given.load(ValidatorSettings))
    customers = ledger.customers

    if list_all:
        whose = [customer] if customer else customers.customers()
        _list_keys([key for each in whose for key in customers.keys_of(each)], as_json)
    elif customer is not None:
        scopes = [Scope(each) for each in scope] if scope else USUAL_SCOPES
        expires_at = customers.now() + days * DAY if days is not None else None
        made = customers.issue(customer, name=name, scopes=scopes, expires_at=expires_at)
        typer.echo(json.dumps({"customer": customer, "key": made, "ledger": shown}) if as_json else made)
        typer.echo(f"Its digest is in {shown}", err=True)
    elif revoke is None or (owner := customers.revoke(revoke)) is None:
        raise SetupError(f"The key opens nothing in {shown}", fix="Give the whole key as it was shown")
    else:
        result = {"customer": owner, "revoked": True, "ledger": shown}
        typer.echo(json.dumps(result) if as_json else f"The key of {owner} opens nothing any more in {shown}")


def _list_keys(keys: Sequence[KnownKey], as_json: bool) -> None:
    """What is known of keys, one a line."""
    for key in keys:
        told = {**asdict(key), "id": key.id, "scopes": list(key.scopes)}
        state = "revoked" if key.revoked_at else "expires" if key.expires_at else "valid"
        line = f"{key.id}  {key.customer}  {key.name or '-'}  {','.join(key.scopes)}  {state}"
        if key.expires_at and not key.revoked_at:
            line += f" {datetime.fromtimestamp(key.expires_at).astimezone():%Y-%m-%d %H:%M %Z}"
        typer.echo(json.dumps(told) if as_json else line)


@app.command()
@takes(FOLDER)
def migrate(given: Given, *, as_json: AsJson = False) -> None:
    """Bring the ledger to this version's schema, as `run` does at its start. Back it up first: there is no way back but a backup."""
    from validator.settings import ValidatorSettings

    _, shown = known_ledger(given.load(ValidatorSettings), migrate=True)
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
    from validator.pruning import Pruner
    from validator.settings import ValidatorSettings

    settings = given.load(ValidatorSettings)
    ledger, _ = known_ledger(settings)
    pruned = Pruner.of(settings, ledger, SystemClock()).prune(only_look=dry_run)
    if as_json:
        typer.echo(json.dumps({"dry_run": dry_run, "bytes": pruned}))
        return
    for kind, size in pruned.items():
        typer.echo(f"{kind}: {size:,} bytes {'would go' if dry_run else 'are gone'}")


def known_ledger(settings: ValidatorSettings, *, migrate: bool = False) -> tuple[Ledger, str]:
    """The ledger of a validator that was started before, and where it is, without a password.

    Raises SetupError when there is none, and without `migrate` also for an older one: no other command takes away the way back.
    """
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
    return Ledger.open(url, SystemClock(), migrate=migrate), shown
