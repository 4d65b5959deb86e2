"""The devices on which a validator measures: those that it was told, or all that torch finds, here or on the nodes of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gradients.cluster.executor import Node, RayExecutor
from gradients.errors import SetupError
from gradients.execution.accelerator import torch_may_use_gpu
from gradients.execution.devices import CPU, Device, Devices, cpu_shares
from gradients.execution.job import Executor, Job
from gradients.execution.records import forget_result
from gradients.log import get_logger
from gradients.tasks.jobs.machine import FIND_DEVICES
from validator.settings import MeasureSettings

FIND_SECONDS = 300.0  # the first start of a driver takes its time
_NODES_SECONDS = 30.0  # nodes come and go
_UNNAMED = "gpu"  # a GPU whose kind Ray doesn't know

log = get_logger("devices")


def devices_of(settings: MeasureSettings, executor: Executor, folder: Path, *, visible: str | None) -> Devices:
    """The devices by the settings; they are looked for when the first task is measured.

    Args:
        folder: of the worker that looks.
        visible: CUDA_VISIBLE_DEVICES, where it is set.
    """
    return Devices(partial(_look, settings, executor, folder, visible))


async def _look(settings: MeasureSettings, executor: Executor, folder: Path, visible: str | None) -> Sequence[Device]:
    on_cpu = [Device(CPU) for name in settings.devices if name == CPU]
    wanted = [name for name in settings.devices if name != CPU]
    if on_cpu and not wanted:
        found: list[Device] = []
    elif not torch_may_use_gpu(visible):
        found = []
    else:
        job = Job(FIND_DEVICES, {}, folder, deadline_seconds=FIND_SECONDS, accelerator=True)
        await asyncio.to_thread(forget_result, job)  # another day there may be others
        told = (await executor.run(job, report=lambda _: None))["devices"]
        assert isinstance(told, list)  # noqa: S101 (our own worker's word)
        found = [Device(str(name), int(memory)) for name, memory in told]
    if unknown := set(wanted) - {device.name for device in found}:
        raise SetupError(
            f"There is no device {min(unknown)}: torch sees {', '.join(d.name for d in found) or 'no GPU'}",
            fix="Mend `devices` in the section [measure], or install the GPU build of torch",
        )
    chosen = [device for device in found if not settings.devices or device.name in wanted]
    chosen = [*chosen, *on_cpu] or cpu_shares(settings.threads)
    log.info("devices_found", devices=[device.name for device in chosen])
    return chosen


def devices_of_nodes(settings: MeasureSettings, cluster: RayExecutor, folder: Path) -> Devices:
    """The devices of a cluster's nodes: GPUs of the kinds in the settings, or shares of their CPUs; looked for again and again.

    Args:
        folder: of the workers that look.
    """
    return Devices(partial(_look_at_nodes, settings, cluster, folder), again_seconds=_NODES_SECONDS)


async def _look_at_nodes(settings: MeasureSettings, cluster: RayExecutor, folder: Path) -> Sequence[Device]:
    nodes = await cluster.nodes()
    on_cpu = CPU in settings.devices
    fit = [
        node for node in nodes if node.gpus and not on_cpu and (not settings.devices or node.kind in settings.devices)
    ]
    found = [device for node in fit for device in await _gpus(node, cluster, folder)]
    if settings.devices and not on_cpu and not found:
        kinds = ", ".join(sorted({node.kind for node in nodes if node.gpus})) or "no GPU"
        raise SetupError(
            f"No node has one of {', '.join(settings.devices)}: the cluster has {kinds}",
            fix="Mend `devices` in the section [measure], or add such a node",
        )
    if len({node.kind for node in fit}) > 1:
        log.warning(
            "devices_of_several_kinds", kinds=sorted({node.kind for node in fit}), fix="name one in [measure] devices"
        )
    return found or [share for node in nodes for share in _shares(node, settings.threads)]


async def _gpus(node: Node, cluster: RayExecutor, folder: Path) -> list[Device]:
    """The node's GPUs; asked once, since a node that is started anew has another id."""
    job = Job(FIND_DEVICES, {}, folder / node.id[:16], deadline_seconds=FIND_SECONDS, accelerator=True)
    told = (await cluster.run(job, report=lambda _: None, node=node.id))["devices"]
    assert isinstance(told, list)  # noqa: S101 (our own worker's word)
    kind = node.kind or _UNNAMED
    return [Device(f"{kind}/{node.id[:8]}/{name}", int(memory)) for name, memory in told[: node.gpus]]


def _shares(node: Node, threads: int) -> list[Device]:
    count = node.cpus // threads
    return [Device(CPU, node.memory // count)] * count
