"""The devices on which a validator measures: those that it was told, or all that torch finds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gradients.errors import SetupError
from gradients.execution.accelerator import torch_may_use_gpu
from gradients.execution.devices import CPU, Device, Devices, cpu_shares
from gradients.execution.job import Executor, Job
from gradients.execution.records import forget_result
from gradients.log import get_logger
from gradients.tasks.jobs import FIND_DEVICES
from validator.settings import MeasureSettings

FIND_SECONDS = 300.0  # the first start of a driver takes its time

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
