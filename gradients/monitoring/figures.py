"""Figures that both daemons have: version, chain, disk, GPUs."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from prometheus_client import Gauge

from gradients import __version__
from gradients.chain.view import ChainView
from gradients.conditions.watch import Look
from gradients.config import environment_without
from gradients.doctor.findings import Finding
from gradients.domain.task import Hotkey

INFO = Gauge("gradients_info", "always 1; which daemon of which version this is", ["daemon", "version"])
BLOCK = Gauge("gradients_chain_block", "newest block that was seen")
HEAD_AGE = Gauge("gradients_chain_head_age_seconds", "time since the newest block came")
METAGRAPH_AGE = Gauge("gradients_chain_metagraph_age_seconds", "time since the metagraph was read")
STAKE = Gauge("gradients_stake_alpha", "our stake, alpha and weighted root stake together; 0 without a seat")
INCENTIVE = Gauge("gradients_incentive_ratio", "our share of the miners' emission of the last epoch")
DISK_FREE = Gauge("gradients_disk_free_bytes", "room on the disk of the daemon's folder")
DISK_SIZE = Gauge("gradients_disk_size_bytes", "size of the disk of the daemon's folder")
GPU_USED = Gauge("gradients_gpu_memory_used_bytes", "memory in use, by all processes", ["gpu"])
GPU_SIZE = Gauge("gradients_gpu_memory_size_bytes", "memory of the GPU", ["gpu"])
GPU_BUSY = Gauge("gradients_gpu_busy_ratio", "part of the last moment in which the GPU worked", ["gpu"])
GPU_HEAT = Gauge("gradients_gpu_temperature_celsius", "temperature of the GPU", ["gpu"])

EVERY_SECONDS = 15.0
SMI_SECONDS = 10.0
MIB = 1024**2


def figures_look(
    name: str, *, view: ChainView, hotkey: Hotkey, folder: Path, own: Callable[[], None] = lambda: None
) -> Look:
    """A look that finds nothing and takes the figures of a daemon (validator or miner); `own` takes those of its role."""
    INFO.labels(name, __version__).set(1)
    HEAD_AGE.set_function(view.head_age)
    METAGRAPH_AGE.set_function(view.metagraph_age)
    BLOCK.set_function(lambda: view.block)

    def take() -> None:
        neuron = view.metagraph().by_hotkey(hotkey)
        STAKE.set(neuron.stake_alpha if neuron else 0.0)
        INCENTIVE.set(neuron.incentive if neuron else 0.0)
        disk = shutil.disk_usage(folder)
        DISK_FREE.set(disk.free)
        DISK_SIZE.set(disk.total)
        gpus()
        own()

    async def look() -> Sequence[Finding]:
        await asyncio.to_thread(take)
        return ()

    return Look("figures", look, EVERY_SECONDS)


def gpus() -> None:
    """Figures of the GPUs that the driver names; none where there is none, or where it does not answer."""
    for gauge in (GPU_USED, GPU_SIZE, GPU_BUSY, GPU_HEAT):
        gauge.clear()
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return
    query = "--query-gpu=index,memory.used,memory.total,utilization.gpu,temperature.gpu"
    try:
        said = subprocess.run(  # noqa: S603 (a fixed command)
            [tool, query, "--format=csv,noheader,nounits"],
            env=environment_without("GRADIENTS_", "BT_", "AWS_"),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SMI_SECONDS,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):  # the condition `gpu` says what is wrong with it
        return
    for line in said.splitlines():
        number, used, size, busy, heat = [part.strip() for part in line.split(",")]
        for gauge, text, unit in (
            (GPU_USED, used, MIB),
            (GPU_SIZE, size, MIB),
            (GPU_BUSY, busy, 0.01),
            (GPU_HEAT, heat, 1),
        ):
            with contextlib.suppress(ValueError):  # "[N/A]": not every GPU knows everything
                value = float(text) * unit
                gauge.labels(number).set(value)
