"""Devices that a machine without a GPU pretends to have."""

from __future__ import annotations

from collections.abc import Sequence

from gradients.execution.devices import CPU, Device, Devices


def cpu_devices(count: int = 1) -> Devices:
    """So many shares of the CPU."""

    async def look() -> Sequence[Device]:
        return [Device(CPU)] * count

    return Devices(look)
