"""`gradients doctor`: what this machine has, what it lacks, and what to do about it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from gradients.cli.flags import SUBNET, Given, takes
from gradients.config import ChainSettings, DaemonSettings, WalletSettings, device_environment
from gradients.errors import GradientsError
from gradients.execution.accelerator import torch_build, torch_may_use_gpu
from gradients.sandbox.trial import program_refusal, worker_refusal
from gradients.tasks.registry import PACKAGES, missing_packages

GIB = 1024**3
LEAST_FREE_GIB, LEAST_MEMORY_GIB = 20, 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    name: str
    level: str  # "ok", "note" (works without it) or "missing"
    found: str
    advice: str = ""


@takes(SUBNET)
def doctor(
    given: Given,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Check Python, packages, GPU, memory, disk, sandbox, wallet and chain. The exit code is 1 when something is missing."""
    settings = given.load(DaemonSettings)
    findings = [*_software(), *_machine(settings.folder), _wallet(settings.wallet), _chain(settings.chain)]
    show(findings, as_json=as_json)


def show(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print findings, and exit with 1 when something is missing."""
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        marks = {"ok": "ok     ", "note": "note   ", "missing": "MISSING"}
        for finding in findings:
            advice = f"  -> {finding.advice}" if finding.advice else ""
            typer.echo(f"{marks[finding.level]} {finding.name:<12} {finding.found}{advice}")
    if any(finding.level == "missing" for finding in findings):
        raise typer.Exit(1)


def _software() -> Iterator[Finding]:
    """Packages are found without importing them: torch alone takes seconds."""
    yield Finding("python", "ok", platform.python_version())
    if absent := missing_packages("instruct"):
        advice = "pip install 'gradients-subnet[train]' where models are trained or measured"
        yield Finding("training", "note", f"not installed: {', '.join(absent)}", advice)
    else:
        shown = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES["language"]]
        yield Finding("training", "ok", ", ".join(shown))
    if absent := missing_packages("diffusion"):
        advice = "pip install 'gradients-subnet[train,image]' for diffusion tasks; miners decline them otherwise"
        yield Finding("images", "note", f"not installed: {', '.join(absent)}", advice)
    else:
        yield Finding("images", "ok", f"diffusers {importlib.metadata.version('diffusers')}")


def accelerator() -> Finding:
    """The GPUs, and whether workers can use them."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return Finding(
            "gpu", "note", f"none; {os.cpu_count()} CPU cores", "fine for tiny models and for the control plane"
        )
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    run = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 (a fixed command)
    if run.returncode:
        return Finding("gpu", "missing", run.stderr.strip() or "nvidia-smi failed", "repair the NVIDIA driver")
    cards = "; ".join(run.stdout.strip().splitlines())
    if not torch_may_use_gpu(device_environment().get("CUDA_VISIBLE_DEVICES")):
        build = torch_build()
        why = {None: "torch is not installed", "cpu": "torch is a build for the CPU"}.get(
            build, "CUDA_VISIBLE_DEVICES hides it"
        )
        return Finding(
            "gpu",
            "missing",
            f"{cards}, which workers cannot use: {why}",
            "install torch's CUDA build, or unset the variable",
        )
    return Finding("gpu", "ok", cards)


def _machine(folder: Path) -> Iterator[Finding]:
    yield accelerator()
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    yield at_least(LEAST_MEMORY_GIB, total, name="memory", unit="GiB")
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / GIB
    yield at_least(LEAST_FREE_GIB, free, name="disk", unit=f"GiB free at {existing}")
    for what, refused in (("workers", worker_refusal()), ("programs", program_refusal())):
        if refused is None:
            yield Finding("sandbox", "ok", f"{what} run in it")
        else:
            yield Finding("sandbox", "note", f"{what} cannot run in it: {refused.message}", refused.fix or "")


def at_least(least: int, there: float, *, name: str, unit: str) -> Finding:
    """Whether there is enough of something that work is slow or short without."""
    if there < least:
        return Finding(name, "note", f"{there:.0f} {unit}", f"{least} GiB or more are better")
    return Finding(name, "ok", f"{there:.0f} {unit}")


def _wallet(wallet: WalletSettings) -> Finding:
    from gradients.chain.wallet import open_wallet

    try:
        keys = open_wallet(wallet.name, wallet.hotkey, wallet.path)
    except GradientsError as error:
        return Finding("wallet", "missing", error.message, error.fix or "")
    return Finding("wallet", "ok", f"{keys.name}: hotkey {keys.hotkey.ss58_address}")


def _chain(chain: ChainSettings) -> Finding:
    import asyncio

    from gradients.chain.sdk import SdkGateway
    from gradients.chain.wallet import open_wallet

    async def look() -> str:
        gateway = SdkGateway(chain.network, chain.netuid, open_wallet("//Doctor", "//Doctor"), timeout_seconds=15)
        try:
            metagraph = await gateway.metagraph()
            return f"{chain.network}: block {metagraph.block}, {len(metagraph.neurons)} neurons on subnet {metagraph.netuid}"
        finally:
            await gateway.close()

    try:
        return Finding("chain", "ok", asyncio.run(look()))
    except GradientsError as error:
        return Finding("chain", "missing", error.message, error.fix or "name another --network")
