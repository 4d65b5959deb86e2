"""`gradients doctor`: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from gradients.cli.flags import Config, Netuid, Network, WalletHotkey, WalletName, WalletPath, settings_of
from gradients.config import DaemonSettings
from gradients.errors import GradientsError
from gradients.tasks.registry import PACKAGES, missing_packages

app = typer.Typer(rich_markup_mode=None)

GIB = 1024**3
LEAST_FREE_GIB, LEAST_MEMORY_GIB = 20, 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: str  # "ok", "note" (works without it) or "missing"
    found: str
    advice: str = ""


@app.callback(invoke_without_command=True)
def doctor(
    config: Config = None,
    wallet: WalletName = None,
    hotkey: WalletHotkey = None,
    wallet_path: WalletPath = None,
    network: Network = None,
    netuid: Netuid = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Check Python, packages, GPU, memory, disk, sandbox, wallet and chain. The exit code is 1 when something is missing."""
    flags = settings_of(
        wallet__name=wallet,
        wallet__hotkey=hotkey,
        wallet__path=wallet_path,
        chain__network=network,
        chain__netuid=netuid,
    )
    settings = DaemonSettings.load(config, flags)
    checks: tuple[Callable[[DaemonSettings], Finding], ...] = (
        _python,
        _packages,
        _images,
        _accelerator,
        _memory,
        _disk,
        _sandbox,
        _wallet,
        _chain,
    )
    findings = [check(settings) for check in checks]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        _print(findings)
    if any(finding.level == "missing" for finding in findings):
        raise typer.Exit(1)


def _print(findings: list[Finding]) -> None:
    marks = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}
    for finding in findings:
        advice = f"  -> {finding.advice}" if finding.advice else ""
        typer.echo(f"{marks[finding.level]} {finding.name:<12} {finding.found}{advice}")


def _python(_: DaemonSettings) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("python", "ok", version)


def _packages(_: DaemonSettings) -> Finding:
    """Found without importing them: torch alone takes seconds."""
    if absent := missing_packages("instruct"):
        advice = "pip install 'gradients-subnet[train]' where models are trained or measured"
        return Finding("training", "note", f"not installed: {', '.join(absent)}", advice)
    shown = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES["language"]]
    return Finding("training", "ok", ", ".join(shown))


def _images(_: DaemonSettings) -> Finding:
    if absent := missing_packages("diffusion"):
        advice = "pip install 'gradients-subnet[train,image]' for diffusion tasks; miners decline them otherwise"
        return Finding("images", "note", f"not installed: {', '.join(absent)}", advice)
    return Finding("images", "ok", f"diffusers {importlib.metadata.version('diffusers')}")


def _accelerator(_: DaemonSettings) -> Finding:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding(
            "gpu", "note", f"none; {os.cpu_count()} CPU cores", "fine for tiny models and for the control plane"
        )
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    run = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 (a fixed command)
    if run.returncode:
        return Finding("gpu", "missing", run.stderr.strip() or "nvidia-smi failed", "mend the NVIDIA driver")
    return Finding("gpu", "ok", "; ".join(run.stdout.strip().splitlines()))


def _memory(_: DaemonSettings) -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    if total < LEAST_MEMORY_GIB:
        return Finding("memory", "note", f"{total:.0f} GiB", f"{LEAST_MEMORY_GIB} GiB or more are better")
    return Finding("memory", "ok", f"{total:.0f} GiB")


def _disk(settings: DaemonSettings) -> Finding:
    folder = settings.folder.expanduser()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / GIB
    if free < LEAST_FREE_GIB:
        return Finding("disk", "note", f"{free:.0f} GiB free at {existing}", f"{LEAST_FREE_GIB} GiB or more are better")
    return Finding("disk", "ok", f"{free:.0f} GiB free at {existing}")


def _sandbox(_: DaemonSettings) -> Finding:
    tool = shutil.which("bwrap")
    if tool is None:
        return Finding("sandbox", "note", "bubblewrap is not installed", "apt-get install bubblewrap")
    return Finding("sandbox", "ok", tool)


def _wallet(settings: DaemonSettings) -> Finding:
    from gradients.chain.wallet import open_wallet

    wallet = settings.wallet
    try:
        keys = open_wallet(wallet.name, wallet.hotkey, Path(wallet.path))
    except GradientsError as error:
        return Finding("wallet", "missing", error.message, error.fix or "")
    return Finding("wallet", "ok", f"{keys.name}: hotkey {keys.hotkey.ss58_address}")


def _chain(settings: DaemonSettings) -> Finding:
    import asyncio

    from gradients.chain.sdk import SdkGateway
    from gradients.chain.wallet import open_wallet

    async def look() -> str:
        gateway = SdkGateway(
            settings.chain.network, settings.chain.netuid, open_wallet("//Doctor", "//Doctor"), timeout_seconds=15
        )
        try:
            metagraph = await gateway.metagraph()
            return f"{settings.chain.network}: block {metagraph.block}, {len(metagraph.neurons)} neurons on subnet {metagraph.netuid}"
        finally:
            await gateway.close()

    try:
        return Finding("chain", "ok", asyncio.run(look()))
    except GradientsError as error:
        return Finding("chain", "missing", error.message, error.fix or "name another --network")
