"""Seats of a subnet: who gets a uid, and who loses it when the subnet is full (subtensor: subnets/uids.rs, registration.rs)."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

from gradients.localchain.dispatch import RefusedError
from gradients.localchain.pallets import errors
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.declare import Storage
from gradients.localchain.state import Draft, View

T = TypeVar("T")

COUNTS: tuple[Storage[list[int]], ...] = (
    st.EMISSION,
    st.CONSENSUS,
    st.INCENTIVE,
    st.DIVIDENDS,
    st.VALIDATOR_TRUST,
    st.STAKE_WEIGHT,
)


class Seat(NamedTuple):
    """A uid that could be taken over; the smallest one goes first."""

    emission: int
    registered_at: int
    uid: int


def seat(state: Draft, netuid: int, hotkey: bytes, *, block: int) -> int:
    """The uid that the hotkey gets. Raises RefusedError(NoNeuronIdAvailable)."""
    occupied = state.get(st.SUBNETWORK_N, netuid)
    if occupied < state.get(st.MAX_ALLOWED_UIDS, netuid):
        uid = occupied
        state.put(st.SUBNETWORK_N, netuid, value=uid + 1)
        for item in (*COUNTS, st.LAST_UPDATE):
            state.put(item, netuid, value=[*state.get(item, netuid), 0])
        state.put(st.ACTIVE, netuid, value=[*state.get(st.ACTIVE, netuid), True])
        state.put(st.VALIDATOR_PERMIT, netuid, value=[*state.get(st.VALIDATOR_PERMIT, netuid), False])
    else:
        weakest = to_prune(state, netuid, block)
        if weakest is None:
            raise RefusedError(errors.SUBTENSOR["NoNeuronIdAvailable"])
        _vacate(state, netuid, weakest)
        uid = weakest
    state.put(st.KEYS, netuid, uid, value=hotkey)
    state.put(st.UIDS, netuid, hotkey, value=uid)
    state.put(st.BLOCK_AT_REGISTRATION, netuid, uid, value=block)
    state.put(st.IS_NETWORK_MEMBER, hotkey, netuid, value=True)
    set_entry(state, st.LAST_UPDATE, netuid, uid=uid, value=block)
    return uid


def owner_uid(state: View, netuid: int) -> int | None:
    """The uid of the subnet owner's hotkey."""
    return state.get(st.UIDS, netuid, state.get(st.SUBNET_OWNER_HOTKEY, netuid))


def to_prune(state: View, netuid: int, block: int) -> int | None:
    """The uid that a newcomer would take: lowest emission among those past their immunity, then among the immune."""
    protected = owner_uid(state, netuid)
    emissions = state.get(st.EMISSION, netuid)
    immunity = state.get(st.IMMUNITY_PERIOD, netuid)
    free: list[Seat] = []
    immune: list[Seat] = []
    for uid in range(state.get(st.SUBNETWORK_N, netuid)):
        if uid != protected:
            candidate = Seat(emissions[uid], state.get(st.BLOCK_AT_REGISTRATION, netuid, uid), uid)
            (immune if block - candidate.registered_at < immunity else free).append(candidate)
    if len(free) > state.get(st.MIN_NON_IMMUNE_UIDS, netuid):
        return min(free).uid
    return min(immune).uid if immune else None


def set_entry(state: Draft, item: Storage[list[T]], netuid: int, *, uid: int, value: T) -> None:
    """Write one uid's entry of a list that has one per uid."""
    entries = state.get(item, netuid)
    entries[uid] = value
    state.put(item, netuid, value=entries)


def _vacate(state: Draft, netuid: int, uid: int) -> None:
    """Clear what belonged to the hotkey in the seat; its commitments stay, as on the chain."""
    hotkey = state.get(st.KEYS, netuid, uid)
    state.delete(st.UIDS, netuid, hotkey)
    state.delete(st.IS_NETWORK_MEMBER, hotkey, netuid)
    state.delete(st.AXONS, netuid, hotkey)
    state.delete(st.NEURON_CERTIFICATES, netuid, hotkey)
    for item in COUNTS:
        set_entry(state, item, netuid, uid=uid, value=0)
    set_entry(state, st.VALIDATOR_PERMIT, netuid, uid=uid, value=False)
    set_entry(state, st.ACTIVE, netuid, uid=uid, value=True)
    state.delete(st.WEIGHTS, netuid, uid)
    state.delete(st.BONDS, netuid, uid)
    for (setter,), row in state.entries(st.WEIGHTS, netuid).items():
        cleared = [(target, 0 if target == uid else value) for target, value in row]
        if cleared != row:
            state.put(st.WEIGHTS, netuid, setter, value=cleared)
