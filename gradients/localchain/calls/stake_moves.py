"""Stake that changes its hotkey, its subnet or its owner without leaving the chain (subtensor: staking/move_stake.rs), one for one.

`alpha_amount` of 2^64-1 means all that is there. Limits are refused where they ask for more than the one for one that is always paid here.
"""

from __future__ import annotations

from gradients.localchain import stake
from gradients.localchain.calls.staking import ERRORS, MIN_STAKE_RAO
from gradients.localchain.dispatch import Dispatch, require
from gradients.localchain.pallets import events
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.scale.hints import U16, U64, Account

MOVED, TRANSFERRED, SWAPPED = (events.SUBTENSOR[name] for name in ("StakeMoved", "StakeTransferred", "StakeSwapped"))


def move_stake(
    call: Dispatch,
    origin_hotkey: Account,
    destination_hotkey: Account,
    origin_netuid: U16,
    destination_netuid: U16,
    alpha_amount: U64,
) -> None:
    """Put the signer's stake on another hotkey, in the same subnet or another."""
    rao = _moved(
        call,
        hotkeys=(origin_hotkey, destination_hotkey),
        netuids=(origin_netuid, destination_netuid),
        alpha_amount=alpha_amount,
    )
    call.emit(MOVED, call.signer, origin_hotkey, origin_netuid, destination_hotkey, destination_netuid, rao)


def move_stake_limit(
    call: Dispatch,
    origin_hotkey: Account,
    destination_hotkey: Account,
    origin_netuid: U16,
    destination_netuid: U16,
    alpha_amount: U64,
    limit_price: U64,
    allow_partial: bool,
) -> None:
    """As `move_stake`, unless it may give less than a limit."""
    require(origin_netuid == destination_netuid or limit_price <= st.RAO_PER_TAO, ERRORS["SlippageTooHigh"])
    move_stake(call, origin_hotkey, destination_hotkey, origin_netuid, destination_netuid, alpha_amount)


def swap_stake(call: Dispatch, hotkey: Account, origin_netuid: U16, destination_netuid: U16, alpha_amount: U64) -> None:
    """Put the signer's stake on a hotkey into another subnet."""
    netuids = (origin_netuid, destination_netuid)
    rao = _moved(call, hotkeys=(hotkey, hotkey), netuids=netuids, alpha_amount=alpha_amount)
    call.emit(SWAPPED, call.signer, hotkey, origin_netuid, destination_netuid, rao)


def swap_stake_limit(
    call: Dispatch,
    hotkey: Account,
    origin_netuid: U16,
    destination_netuid: U16,
    alpha_amount: U64,
    limit_price: U64,
    allow_partial: bool,
) -> None:
    """As `swap_stake`, unless it may give less than a limit."""
    require(limit_price <= st.RAO_PER_TAO, ERRORS["SlippageTooHigh"])
    swap_stake(call, hotkey, origin_netuid, destination_netuid, alpha_amount)


def transfer_stake(
    call: Dispatch,
    destination_coldkey: Account,
    hotkey: Account,
    origin_netuid: U16,
    destination_netuid: U16,
    alpha_amount: U64,
) -> None:
    """Give the signer's stake on a hotkey to another coldkey."""
    for netuid in (origin_netuid, destination_netuid):
        require(call.state.get(st.TRANSFER_TOGGLE, netuid), ERRORS["TransferDisallowed"])
    rao = _moved(
        call,
        hotkeys=(hotkey, hotkey),
        netuids=(origin_netuid, destination_netuid),
        alpha_amount=alpha_amount,
        to_coldkey=destination_coldkey,
    )
    call.emit(TRANSFERRED, call.signer, destination_coldkey, hotkey, origin_netuid, destination_netuid, rao)


def _moved(
    call: Dispatch,
    *,
    hotkeys: tuple[bytes, bytes],
    netuids: tuple[int, int],
    alpha_amount: int,
    to_coldkey: bytes | None = None,
) -> int:
    """Move stake between two positions, when the chain's rules allow it; how much, in rao."""
    state, to_coldkey = call.state, call.signer if to_coldkey is None else to_coldkey
    changes_place = to_coldkey != call.signer or hotkeys[0] != hotkeys[1] or netuids[0] != netuids[1]
    require(changes_place, ERRORS["SameNetuid"])
    for netuid in netuids:
        require(state.get(st.NETWORKS_ADDED, netuid), ERRORS["SubnetNotExists"])
    for netuid in netuids:
        require(netuid == stake.ROOT or state.get(st.SUBTOKEN_ENABLED, netuid), ERRORS["SubtokenDisabled"])
    for hotkey in hotkeys:
        require(state.has(st.OWNER, hotkey), ERRORS["HotKeyAccountNotExists"])
    held = stake.position(state, hotkey=hotkeys[0], coldkey=call.signer, netuid=netuids[0])
    rao = held if alpha_amount == st.U64_MAX else alpha_amount
    require(0 < rao <= held, ERRORS["NotEnoughStakeToWithdraw"])
    require(netuids[0] == netuids[1] or rao >= MIN_STAKE_RAO, ERRORS["AmountTooLow"])
    stake.remove(state, hotkey=hotkeys[0], coldkey=call.signer, netuid=netuids[0], rao=rao)
    stake.add(state, hotkey=hotkeys[1], coldkey=to_coldkey, netuid=netuids[1], rao=rao)
    return rao
