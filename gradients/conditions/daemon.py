"""The looks that both daemons take."""

from __future__ import annotations

from collections.abc import Sequence

from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.clock import Clock
from gradients.conditions import machine
from gradients.conditions.axon import OwnAxon
from gradients.conditions.state import Conditions
from gradients.conditions.subnet import Chain, Subnet
from gradients.conditions.watch import Look, Watch
from gradients.config import DaemonSettings
from gradients.doctor.subnet import Role
from gradients.domain.chain import AxonAddress

DISK_SECONDS, DISK_PATIENCE_SECONDS = 30.0, 30.0
GPU_SECONDS, GPU_PATIENCE_SECONDS = 120.0, 60.0


async def watch_of(
    name: str,
    settings: DaemonSettings,
    *,
    gateway: ChainGateway,
    view: ChainView,
    clock: Clock,
    conditions: Conditions,
    address: AxonAddress,
    version_key: int | None = None,
    has_gpu: bool = True,
    own: Sequence[Look] = (),
) -> Watch:
    """What a daemon (validator or miner) that has just started and published `address` watches.

    Args:
        version_key: of the weights that it sends.
        has_gpu: whether workers run on this machine.
        own: the looks that only its role takes.
    """
    chain = settings.chain
    block_seconds = await gateway.block_seconds()
    role = Role(name, settings.wallet, chain, gateway.hotkey, version_key)
    subnet = Subnet(gateway, view, clock, role, OwnAxon(gateway, view, clock, address), block_seconds)
    ages = Chain(view, chain.network, block_seconds, chain.refresh_seconds)
    looks = [
        Look("chain", ages.look, chain.refresh_seconds, with_metagraph=True),
        Look("subnet", subnet.look, chain.refresh_seconds, with_metagraph=True),
        Look("folder", lambda: machine.room(settings.folder), DISK_SECONDS, patience_seconds=DISK_PATIENCE_SECONDS),
        *own,
    ]
    if has_gpu:
        looks.append(Look("gpu", machine.Accelerator().look, GPU_SECONDS, patience_seconds=GPU_PATIENCE_SECONDS))
    return Watch(view, conditions, looks)
