"""Registering hotkeys and subnets (subtensor: subnets/registration.rs, subnets/subnet.rs)."""

from __future__ import annotations

from gradients.localchain import accounts, neurons, stake, subnets
from gradients.localchain.dispatch import BAD_ORIGIN, Dispatch, require
from gradients.localchain.pallets import errors, events
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.scale.hints import U16, Account

ERRORS = errors.SUBTENSOR
EVENTS = events.SUBTENSOR
DYNAMIC_MECHANISM = 1


def burned_register(call: Dispatch, netuid: U16, hotkey: Account) -> None:
    """Give the hotkey a uid for the subnet's price, which is burned."""
    state = call.state
    require(netuid != stake.ROOT, ERRORS["RegistrationNotPermittedOnRootSubnet"])
    require(state.get(st.NETWORKS_ADDED, netuid), ERRORS["SubnetNotExists"])
    require(state.get(st.REGISTRATION_ALLOWED, netuid), ERRORS["SubNetRegistrationDisabled"])
    require(not state.has(st.UIDS, netuid, hotkey), ERRORS["HotKeyAlreadyRegisteredInSubNet"])
    price = state.get(st.BURN, netuid)
    affordable = accounts.free(state, call.signer) - accounts.EXISTENTIAL_DEPOSIT_RAO
    require(affordable >= price, ERRORS["NotEnoughBalanceToStake"])
    stake.associate(state, call.signer, hotkey)
    require(state.get(st.OWNER, hotkey) == call.signer, ERRORS["NonAssociatedColdKey"])
    accounts.debit(state, call.signer, price)
    uid = neurons.seat(state, netuid, hotkey, block=call.block)
    call.emit(EVENTS["NeuronRegistered"], netuid, uid, hotkey)


def register_network(call: Dispatch, hotkey: Account) -> None:
    """Create a subnet that the signer owns, with `hotkey` as its first neuron."""
    state = call.state
    owned = not state.has(st.OWNER, hotkey) or state.get(st.OWNER, hotkey) == call.signer
    require(owned, ERRORS["NonAssociatedColdKey"])
    price = state.get(st.NETWORK_LAST_LOCK_COST)
    affordable = accounts.free(state, call.signer) - accounts.EXISTENTIAL_DEPOSIT_RAO
    require(affordable >= price, ERRORS["CannotAffordLockCost"])
    accounts.debit(state, call.signer, price)
    netuid = subnets.create(state, coldkey=call.signer, hotkey=hotkey, block=call.block)
    state.put(st.SUBNET_LOCKED, netuid, value=price)
    call.emit(EVENTS["NetworkAdded"], netuid, DYNAMIC_MECHANISM)


def start_call(call: Dispatch, netuid: U16) -> None:
    """Start a subnet's emission; its owner does this once."""
    state = call.state
    require(state.get(st.NETWORKS_ADDED, netuid), ERRORS["SubnetNotExists"])
    require(state.get(st.SUBNET_OWNER, netuid) == call.signer, BAD_ORIGIN)
    require(not state.has(st.FIRST_EMISSION_BLOCK, netuid), ERRORS["FirstEmissionBlockNumberAlreadySet"])
    ready_at = state.get(st.NETWORK_REGISTERED_AT, netuid) + state.get(st.START_CALL_DELAY)
    require(call.block >= ready_at, ERRORS["StartCallNotReady"])
    subnets.start(state, netuid, call.block)
