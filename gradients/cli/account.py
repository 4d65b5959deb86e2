"""The customers' commands on their own account: its limits and its API keys. Part of `gradients task`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from gradients.cli.customer import AsJson, Key, Url, as_json_text, market

if TYPE_CHECKING:
    from gradients.client.account import ApiKey

key_app = typer.Typer(
    help="Make, list and revoke your API keys; wants a key with the scope admin.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def account(url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Whose API key this is, what it may be used for, and how much of each limit is used."""
    with market(url, key) as client:
        found = client.account()
    if as_json:
        typer.echo(as_json_text(found))
        return
    tasks, held = found.running_tasks, found.upload_bytes
    typer.echo(f"{found.customer}, key {found.key.id} {found.key.name} ({', '.join(found.key.scopes)})")
    typer.echo(f"{tasks.used} of {tasks.most} running tasks, {held.used:,} of {held.most:,} bytes of uploads")
    typer.echo(f"{found.requests_per_minute} requests a minute")


@key_app.command("make")
def make_key(
    name: Annotated[str, typer.Option(help="What the key is for, to know it in a list.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(help="read, submit or admin; may be repeated. By default read and submit."),
    ] = None,
    days: Annotated[float | None, typer.Option(min=0.001, max=3650, help="After how many days it expires.")] = None,
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make a key for yourself. It is shown this once, alone on standard output."""
    from gradients.client.account import NewKey
    from gradients.domain.customer import USUAL_SCOPES, Scope

    if unknown := [each for each in scope or () if each not in tuple(Scope)]:
        raise typer.BadParameter(f"There is no scope {unknown[0]!r}; choose from {', '.join(Scope)}")
    scopes = tuple(Scope(each) for each in scope) if scope else USUAL_SCOPES
    with market(url, key) as client:
        made = client.make_key(NewKey(name=name, scopes=scopes, expires_in_days=days))
    typer.echo(as_json_text(made) if as_json else made.key)
    typer.echo(f"Its id is {made.id}; it may {', '.join(made.scopes)}", err=True)


@key_app.command("list")
def list_keys(url: Url = None, key: Key = None, as_json: AsJson = False) -> None:
    """Your keys, newest first, with those that open nothing any more."""
    with market(url, key) as client:
        keys = client.keys()
    if as_json:
        typer.echo(json.dumps([each.model_dump(mode="json") for each in keys]))
    else:
        _print_keys(keys)


@key_app.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The key's id, as `gradients task key list` shows it.")],
    url: Url = None,
    key: Key = None,
    as_json: AsJson = False,
) -> None:
    """Make one of your keys useless, from now on."""
    with market(url, key) as client:
        revoked = client.revoke_key(key_id)
    typer.echo(as_json_text(revoked) if as_json else f"The key {revoked.id} opens nothing any more")


def _print_keys(keys: Sequence[ApiKey]) -> None:
    for key in keys:
        state = "revoked" if key.revoked_at else "valid"
        if key.expires_at and not key.revoked_at:
            state = f"until {datetime.fromtimestamp(key.expires_at).astimezone():%Y-%m-%d %H:%M %Z}"
        typer.echo(f"{key.id}  {key.name or '-'}  {','.join(key.scopes)}  {state}")
