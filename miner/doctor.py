"""What a miner needs of its machine and its subnet, beside what both daemons do: a recipe, and memory to train in."""

from __future__ import annotations

from collections.abc import Iterator

from gradients.bases.bases import DEFAULT_CACHE
from gradients.clock import Clock
from gradients.config import device_environment, shipped_configs
from gradients.doctor.examination import Daemon, examine
from gradients.doctor.findings import Finding
from gradients.doctor.machine import GIB
from gradients.doctor.storage import is_short
from gradients.doctor.subnet import see
from gradients.errors import GradientsError, SetupError
from gradients.extras import how_to_install
from gradients.files.locks import only_one
from miner.journal import RECORD, Journal
from miner.memory import LOW_BIT_PACKAGES, Memory, installed_memory
from miner.plan import read_recipe
from miner.settings import MinerSettings
from miner.tracking.tracking import require


def examine_miner(settings: MinerSettings, clock: Clock) -> list[Finding]:
    """Every finding on a miner with these settings."""
    caches = settings.caches or DEFAULT_CACHE.expanduser()
    daemon = Daemon("miner", settings, caches=caches, sandboxed=False)
    looks = (
        lambda: (recipe(settings),),
        lambda: training_memory(settings),
        lambda: tracker(settings),
        lambda: sweep(settings) if not daemon.at_work and is_short(settings.folder) else (),
    )
    return examine(daemon, looks, clock)


def recipe(settings: MinerSettings) -> Finding:
    """Whether there is one that can be followed."""
    shipped = shipped_configs() / "recipes"
    try:
        return Finding("recipe", "ok", f"{read_recipe(settings.recipe).name} ({settings.recipe})")
    except GradientsError as error:
        names = ", ".join(sorted(file.name for file in shipped.glob("*.toml")))
        return Finding(
            "recipe", "missing", error.message, f"name one that is there: --recipe; in {shipped} are {names}"
        )


def training_memory(settings: MinerSettings) -> Iterator[Finding]:
    """Whether the memory that is promised to training is there."""
    there = installed_memory(device_environment().get("CUDA_VISIBLE_DEVICES"))
    if settings.memory_gib is not None and settings.memory_gib * GIB > there.bytes:
        found = f"memory_gib is {settings.memory_gib:g}, and {there.bytes / GIB:.0f} GiB are there"
        yield Finding("memory_gib", "note", found, "lower memory_gib, or tasks that don't fit are accepted and fail")
    yield from low_bits(there)


def low_bits(memory: Memory) -> Iterator[Finding]:
    """Whether a GPU's miner has what lets large bases fit."""
    if memory.is_gpu and not memory.low_bits:
        found = f"{' or '.join(LOW_BIT_PACKAGES)} is not installed: no base in 4 bits, no moments in 8"
        advice = f"{how_to_install('gpu')}; without it large bases are declined that others train"
        yield Finding("low bits", "note", found, advice)


def tracker(settings: MinerSettings) -> Iterator[Finding]:
    """Whether the library is there that keeps the curves, where one is asked for."""
    try:
        require(settings.tracking)
    except GradientsError as error:
        yield Finding("tracking", "missing", error.message, error.fix or "")


def sweep(settings: MinerSettings) -> Iterator[Finding]:
    """For a short disk: that files of ended tasks may go, though nobody runs who would remove them."""
    if not settings.keep_models and any((settings.folder / "tasks").glob(f"*/{RECORD}")):
        found = "a miner that does not run removes nothing of tasks whose reveal has ended"
        yield Finding("sweep", "note", found, "start it, or --fix", lambda: _sweep(settings))


def _sweep(settings: MinerSettings) -> str:
    """Remove what a running miner would. Raises SetupError when one has begun to run, or the chain does not say which block it is."""
    seen = see(settings.chain)
    if isinstance(seen, Finding):
        raise SetupError(f"Which tasks are over is the chain's to say: {seen.found}", fix=seen.advice)
    with only_one(settings.folder, what="miner"):
        swept = Journal(settings.folder / "tasks").sweep(block=seen.metagraph.block)
    return f"removed the files of {len(swept)} tasks; their records stay"
