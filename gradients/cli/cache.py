"""`gradients cache`: the base models that lie on this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from gradients.cli.doctor import AsJson
from gradients.errors import SetupError

Caches = Annotated[
    Path | None, typer.Option("--caches", help="The folder, as `caches` in the settings; by default the user's cache.")
]
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def cache() -> None:
    """List the base models that were downloaded or converted, and make room."""


@app.command("list")
def list_(*, caches: Caches = None, as_json: AsJson = False) -> None:
    """Show what lies in the cache, the largest first, each with the day of its last use.

    A daemon keeps it within `[keep] caches_most_bytes` of its settings: what nothing has used for longest goes first.
    """
    from gradients.bases.cache import held

    found = held(_folder(caches))
    if as_json:
        rows = [
            {
                "name": each.name,
                "bytes": each.bytes,
                "fetched_at": each.fetched_at,
                "used_at": each.used_at,
                "is_whole": each.is_whole,
            }
            for each in found
        ]
        typer.echo(json.dumps({"folder": str(_folder(caches)), "bases": rows}))
        return
    for each in found:
        day = time.strftime("%Y-%m-%d", time.localtime(each.used_at))
        typer.echo(f"{each.bytes / 1024**3:8.2f} GiB  {day}  {each.name}{'' if each.is_whole else '  (interrupted)'}")
    typer.echo(f"{sum(each.bytes for each in found) / 1024**3:8.2f} GiB in {_folder(caches)}")


@app.command()
def clear(
    names: Annotated[list[str] | None, typer.Argument(help="Bases as `list` names them.")] = None,
    *,
    all_: Annotated[bool, typer.Option("--all", help="Everything that lies there.")] = False,
    caches: Caches = None,
    as_json: AsJson = False,
) -> None:
    """Take bases out of the cache. Nothing is lost: a base that a task names is fetched again, which takes time.

    A daemon may run; what it works with at the moment stays readable for it.
    """
    from gradients.bases.cache import drop, held

    if bool(names) is all_:
        raise typer.BadParameter("Name bases, or --all, and not both")
    found = held(_folder(caches))
    if unknown := set(names or ()) - {each.name for each in found}:
        raise SetupError(
            f"{', '.join(sorted(unknown))} is not in {_folder(caches)}", fix="`gradients cache list` names what is"
        )
    going = [each for each in found if all_ or each.name in (names or ())]
    for each in going:
        drop(each)
    freed = sum(each.bytes for each in going)
    typer.echo(json.dumps({"freed_bytes": freed}) if as_json else f"{freed / 1024**3:.2f} GiB are free again")


def _folder(caches: Path | None) -> Path:
    from gradients.bases.bases import DEFAULT_CACHE

    return (caches or DEFAULT_CACHE).expanduser().absolute()
