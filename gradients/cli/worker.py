"""`gradients worker`: a box that lends its GPUs to a validator through a Ray cluster."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import httpx
import typer

from gradients import __version__
from gradients.cli.doctor import show
from gradients.cluster.connection import Connection
from gradients.cluster.settings import NodeSettings
from gradients.config import ray_environment
from gradients.doctor.findings import Finding
from gradients.doctor.machine import GIB, gpu, memory, sandbox
from gradients.doctor.storage import folder
from gradients.errors import GradientsError
from gradients.extras import how_to_install
from gradients.tasks.registry import TYPES, missing_packages, task_type

LEAST_FREE_GIB, LEAST_MEMORY_GIB = 50, 16
_ORIGIN_SECONDS = 5.0

app = typer.Typer(
    help="A box that lends its GPUs to a validator through a Ray cluster.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _group() -> None:
    """A box that lends its GPUs to a validator through a Ray cluster."""


@app.command()
def doctor(
    address: Annotated[
        str | None, typer.Option(help="HOST:PORT of the cluster's head; tried when it is given.", show_default=False)
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(help="URL of the validator's exchange (`origin` in its section ray); tried when it is given."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Check what a node needs: packages, GPU, sandbox, disk, token, and the way to the cluster and the validator.

    The exit code is 1 when something is missing.
    """
    settings = NodeSettings()
    findings = [*_software(), *gpu(), *_machine(settings), *_token()]
    if address:
        findings.append(_cluster(address))
    if origin:
        findings.append(_origin(origin))
    show(findings, as_json=as_json)


def _software() -> Iterator[Finding]:
    yield Finding("gradients", "ok", f"{__version__}; the validator must have the same")
    if importlib.util.find_spec("ray") is None:
        yield Finding("ray", "missing", "not installed", how_to_install("ray", "train", "image"))
    else:
        yield Finding(
            "ray", "ok", f"{importlib.metadata.version('ray')}; all nodes must have the same, and the same Python"
        )
    for name, family, package in (("models", "language", "transformers"), ("images", "image", "diffusers")):
        if absent := missing_packages(next(kind for kind in TYPES if task_type(kind).base_family == family)):
            missing = f"not installed: {', '.join(absent)}"
            yield Finding(name, "missing", missing, how_to_install("train", "image"))
        else:
            yield Finding(name, "ok", f"{package} {importlib.metadata.version(package)}")


def _machine(settings: NodeSettings) -> Iterator[Finding]:
    yield from memory(least_gib=LEAST_MEMORY_GIB)
    yield from folder(settings.folder, name="disk", flag="GRADIENTS_WORKER_FOLDER", least_gib=LEAST_FREE_GIB)
    there = next(place for place in (settings.folder, *settings.folder.parents) if place.exists())
    if settings.kept_gibibytes > shutil.disk_usage(there).free / GIB:
        found = f"up to {settings.kept_gibibytes:.0f} GiB of bases and repos are kept, more than is free"
        yield Finding("kept", "note", found, "lower GRADIENTS_WORKER_KEPT_GIBIBYTES")
    yield from sandbox(needed=("workers", "programs"))


def _token() -> Iterator[Finding]:
    environment = ray_environment()
    file = Path(environment.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token").expanduser()
    if environment["RAY_AUTH_MODE"] != "token":
        found = "RAY_AUTH_MODE switches it off: whoever reaches the cluster's ports runs what they like on it"
        yield Finding("token", "missing", found, "unset it, or set it to token")
    elif "RAY_AUTH_TOKEN" in environment:
        yield Finding("token", "ok", "in RAY_AUTH_TOKEN")
    elif file.is_file():
        yield Finding("token", "ok", f"in {file}")
    else:
        advice = "copy the head's there (`ray get-auth-token --generate` made it), or set RAY_AUTH_TOKEN"
        yield Finding("token", "missing", f"neither RAY_AUTH_TOKEN nor {file}", advice)


def _cluster(address: str) -> Finding:
    async def look() -> None:
        connection = Connection(address, ray_environment())
        try:
            await connection.open()
        finally:
            await connection.close()

    try:
        asyncio.run(look())
    except GradientsError as error:
        return Finding("cluster", "missing", error.message, error.fix or "")
    return Finding("cluster", "ok", f"{address} answers")


def _origin(url: str) -> Finding:
    advice = "is `host` in the validator's section ray an interface that this box reaches, and the port open?"
    try:
        answer = httpx.get(f"{url.rstrip('/')}/livez", timeout=_ORIGIN_SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Finding("origin", "missing", f"{url} does not answer: {error or type(error).__name__}", advice)
    if answer.status_code != httpx.codes.OK:
        return Finding("origin", "missing", f"{url} answers with status {answer.status_code}", advice)
    return Finding("origin", "ok", f"{url} answers")
