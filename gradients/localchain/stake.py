"""Stake: who has how much alpha on which hotkey. One TAO buys one alpha here; there is no pool and no price.

Positions are `Alpha[hotkey, coldkey, netuid]`, in rao; `TotalHotkeyAlpha` is their sum. On netuid 0 (root) stake is TAO.
"""

from __future__ import annotations

from typing import NamedTuple

from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.subtensor_types import U64F64
from gradients.localchain.state import Draft, View

ROOT = 0
TAKE = 0.18  # a validator's share of its nominators' dividends


class StakeWeight(NamedTuple):
    """What a hotkey's stake counts for in a subnet, rao. `total` is alpha plus weighted root TAO."""

    total: int
    alpha: int
    tao: int


def position(state: View, *, hotkey: bytes, coldkey: bytes, netuid: int) -> int:
    """A coldkey's alpha on a hotkey, rao."""
    return state.get(st.ALPHA, hotkey, coldkey, netuid).bits >> 64


def of_hotkey(state: View, hotkey: bytes, netuid: int) -> int:
    """All alpha on a hotkey, rao."""
    return state.get(st.TOTAL_HOTKEY_ALPHA, hotkey, netuid)


def weight(state: View, hotkey: bytes, netuid: int) -> StakeWeight:
    """What the hotkey's stake counts for in the subnet."""
    alpha, tao = of_hotkey(state, hotkey, netuid), of_hotkey(state, hotkey, ROOT)
    return StakeWeight(alpha + tao * state.get(st.TAO_WEIGHT) // st.U64_MAX, alpha, tao)


def weights(state: View, netuid: int) -> list[StakeWeight]:
    """The stake weight of every uid."""
    return [weight(state, hotkey, netuid) for hotkey in hotkeys(state, netuid)]


def hotkeys(state: View, netuid: int) -> list[bytes]:
    """Every uid's hotkey."""
    return [state.get(st.KEYS, netuid, uid) for uid in range(state.get(st.SUBNETWORK_N, netuid))]


def associate(state: Draft, coldkey: bytes, hotkey: bytes) -> None:
    """Make the coldkey the hotkey's owner, unless it has one."""
    if not state.has(st.OWNER, hotkey):
        state.put(st.OWNER, hotkey, value=coldkey)
        state.put(st.OWNED_HOTKEYS, coldkey, value=[*state.get(st.OWNED_HOTKEYS, coldkey), hotkey])
        _remember(state, coldkey, hotkey)


def add(state: Draft, *, hotkey: bytes, coldkey: bytes, netuid: int, rao: int) -> None:
    """Put alpha on a position."""
    _change(state, hotkey=hotkey, coldkey=coldkey, netuid=netuid, rao=rao)
    _remember(state, coldkey, hotkey)


def remove(state: Draft, *, hotkey: bytes, coldkey: bytes, netuid: int, rao: int) -> None:
    """Take alpha off a position, which the caller has checked to be enough."""
    _change(state, hotkey=hotkey, coldkey=coldkey, netuid=netuid, rao=-rao)


def pay_dividend(state: Draft, hotkey: bytes, *, netuid: int, rao: int) -> None:
    """Share a validator's dividend: its take to the owner, the rest over all positions by their size."""
    owner = state.get(st.OWNER, hotkey)
    keys = state.entries(st.ALPHA, hotkey)
    nominators = [bytes(coldkey) for coldkey, subnet in keys if subnet == netuid and isinstance(coldkey, bytes)]
    positions = {each: position(state, hotkey=hotkey, coldkey=each, netuid=netuid) for each in nominators}
    total = sum(positions.values())
    if not total:
        _change(state, hotkey=hotkey, coldkey=owner, netuid=netuid, rao=rao)
        return
    shared = rao - int(rao * TAKE)
    shares = {coldkey: shared * held // total for coldkey, held in positions.items()}
    shares[owner] = shares.get(owner, 0) + rao - sum(shares.values())
    for coldkey, share in shares.items():
        _change(state, hotkey=hotkey, coldkey=coldkey, netuid=netuid, rao=share)


def _change(state: Draft, *, hotkey: bytes, coldkey: bytes, netuid: int, rao: int) -> None:
    held = position(state, hotkey=hotkey, coldkey=coldkey, netuid=netuid) + rao
    state.put(st.ALPHA, hotkey, coldkey, netuid, value=U64F64(held << 64))
    state.put(st.TOTAL_HOTKEY_ALPHA, hotkey, netuid, value=of_hotkey(state, hotkey, netuid) + rao)
    if netuid != ROOT:
        state.put(st.SUBNET_ALPHA_OUT, netuid, value=state.get(st.SUBNET_ALPHA_OUT, netuid) + rao)


def _remember(state: Draft, coldkey: bytes, hotkey: bytes) -> None:
    known = state.get(st.STAKING_HOTKEYS, coldkey)
    if hotkey not in known:
        state.put(st.STAKING_HOTKEYS, coldkey, value=[*known, hotkey])
