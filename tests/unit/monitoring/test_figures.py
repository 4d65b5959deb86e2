"""The figures that both daemons have."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from gradients.chain.view import ChainView
from gradients.conditions.watch import Look
from gradients.monitoring.figures import figures_look, gpus
from gradients.testing.clock import HandClock
from gradients.testing.fake_chain import FakeChain


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"gradients_{name}", labels)


def test_chain_disk_and_seat_are_told(tmp_path: Path) -> None:
    clock, chain = HandClock(), FakeChain()
    gateway = chain.gateway("ours")
    view = ChainView(gateway, clock)

    async def scenario() -> None:
        await gateway.register()
        await view.start()
        look: Look = figures_look("miner", view=view, hotkey=gateway.hotkey, folder=tmp_path)
        assert await look.take() == ()
        await chain.advance(4)
        await view.start()
        clock.time += 9.0

    asyncio.run(scenario())
    assert (value("chain_block"), value("chain_head_age_seconds"), value("chain_metagraph_age_seconds")) == (5, 9, 9)
    assert value("stake_alpha") == value("incentive_ratio") == 0
    free, size = value("disk_free_bytes"), value("disk_size_bytes")
    assert free is not None
    assert size is not None
    assert 0 < free <= size == os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize


def plant(folder: Path, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)


def test_gpus_are_told_as_far_as_their_driver_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "echo '0, 1024, 81559, 37, 41'; echo '1, 0, 16384, [N/A], 30'")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    gpus()
    assert value("gpu_memory_used_bytes", gpu="0") == 1024 * 2**20
    assert value("gpu_memory_size_bytes", gpu="1") == 16384 * 2**20
    assert value("gpu_busy_ratio", gpu="0") == pytest.approx(0.37)
    assert value("gpu_busy_ratio", gpu="1") is None
    assert value("gpu_temperature_celsius", gpu="0") == 41
    plant(tmp_path, "exit 9")
    gpus()
    assert value("gpu_temperature_celsius", gpu="0") is None
