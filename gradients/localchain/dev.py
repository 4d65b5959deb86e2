"""What only the operator of a local chain may do, and no account of a real one. Each change becomes part of the next block."""

from __future__ import annotations

from collections.abc import Callable

from gradients.localchain import accounts, stake
from gradients.localchain.calls.hyperparameters import GLOBAL_PARAMETERS, HYPERPARAMETERS, write
from gradients.localchain.keys import from_address
from gradients.localchain.pallets import storage
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.state import Draft

Change = Callable[[Draft, int], bool]
PARAMETERS = {parameter.name: parameter for parameter in (*HYPERPARAMETERS, *GLOBAL_PARAMETERS)}


def fund(address: str, rao: int) -> Change:
    """Give an account TAO out of nothing."""
    account = from_address(address)
    if rao < 0:
        raise ValueError("an account can only be given TAO")

    def change(state: Draft, _: int) -> bool:
        accounts.credit(state, account, rao)
        state.put(storage.TOTAL_ISSUANCE, value=state.get(storage.TOTAL_ISSUANCE) + rao)
        return True

    return change


def add_stake(coldkey_address: str, hotkey_address: str, *, netuid: int, rao: int) -> Change:
    """Put alpha out of nothing on a position; the hotkey becomes the coldkey's unless it has an owner."""
    coldkey, hotkey = from_address(coldkey_address), from_address(hotkey_address)
    if rao < 0:
        raise ValueError("a position can only be given alpha")

    def change(state: Draft, _: int) -> bool:
        _check_subnet(state, netuid)
        stake.associate(state, coldkey, hotkey)
        stake.add(state, hotkey=hotkey, coldkey=coldkey, netuid=netuid, rao=rao)
        return True

    return change


def set_hyperparameter(netuid: int, name: str, value: int | bool) -> Change:
    """Set any hyper-parameter that the chain knows, whoever may set it elsewhere."""
    if name not in PARAMETERS:
        raise ValueError(f"{name!r} is not a hyper-parameter that can be set; known: {', '.join(sorted(PARAMETERS))}")
    parameter = PARAMETERS[name]
    try:
        parameter.item.type.encode(value)
    except (OverflowError, AttributeError, TypeError) as error:
        raise ValueError(f"{value!r} does not fit {name}") from error

    def change(state: Draft, block: int) -> bool:
        _check_subnet(state, netuid)
        write(state, parameter, netuid, value, block=block)
        return True

    return change


def trigger_epoch(netuid: int) -> Change:
    """Let the subnet's epoch run with the block after the next."""

    def change(state: Draft, block: int) -> bool:
        _check_subnet(state, netuid)
        state.put(st.PENDING_EPOCH_AT, netuid, value=block + 1)
        return True

    return change


def _check_subnet(state: Draft, netuid: int) -> None:
    if not state.get(st.NETWORKS_ADDED, netuid):
        raise ValueError(f"subnet {netuid} does not exist")
