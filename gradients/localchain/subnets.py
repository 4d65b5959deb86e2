"""Creating subnets (subtensor: subnets/subnet.rs)."""

from __future__ import annotations

from gradients.localchain import neurons, stake
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.subtensor_types import I96F32
from gradients.localchain.state import Draft, View

POOL_RAO = 1000 * st.RAO_PER_TAO  # in both halves of the pool, so that the price that clients compute is 1
SYMBOLS = "Τβγδεζηθικλμνξοπρστυφχψω"  # the chain's first token symbols, by netuid


def existing(state: View) -> list[int]:
    """All subnets' numbers, root included."""
    return sorted(int(netuid) for (netuid,), added in state.entries(st.NETWORKS_ADDED).items() if added)


def create(state: Draft, *, coldkey: bytes, hotkey: bytes, block: int) -> int:
    """Create a subnet and seat its owner's hotkey; the subnet's number. It emits nothing until it is started."""
    netuid = next(number for number in range(1, 65536) if not state.get(st.NETWORKS_ADDED, number))
    add(state, netuid, tempo=state.get(st.TEMPO, netuid))
    state.put(st.LAST_EPOCH_BLOCK, netuid, value=block)
    state.put(st.NETWORK_REGISTERED_AT, netuid, value=block)
    state.put(st.SUBNET_OWNER, netuid, value=coldkey)
    state.put(st.SUBNET_OWNER_HOTKEY, netuid, value=hotkey)
    stake.associate(state, coldkey, hotkey)
    neurons.seat(state, netuid, hotkey, block=block)
    return netuid


def add(state: Draft, netuid: int, *, tempo: int, price: int = 1) -> None:
    """Write what every subnet has, with the parameters that the chain gives new ones."""
    state.put(st.NETWORKS_ADDED, netuid, value=True)
    state.put(st.TOTAL_NETWORKS, value=state.get(st.TOTAL_NETWORKS) + 1)
    state.put(st.SUBNETWORK_N, netuid, value=0)
    state.put(st.SUBNET_MECHANISM, netuid, value=1 if netuid else 0)
    state.put(st.TEMPO, netuid, value=tempo)
    state.put(st.BURN, netuid, value=state.get(st.BURN, netuid))
    state.put(st.MAX_ALLOWED_UIDS, netuid, value=state.get(st.MAX_ALLOWED_UIDS, netuid))
    state.put(st.REGISTRATION_ALLOWED, netuid, value=True)
    state.put(st.YUMA3, netuid, value=True)
    state.put(st.TOKEN_SYMBOL, netuid, value=SYMBOLS[netuid % len(SYMBOLS)].encode())
    state.put(st.SUBNET_TAO, netuid, value=POOL_RAO)
    state.put(st.SUBNET_ALPHA_IN, netuid, value=POOL_RAO)
    state.put(st.SUBNET_TAO_IN_EMISSION, netuid, value=0)
    state.put(st.SUBNET_MOVING_PRICE, netuid, value=I96F32(price << 32))


def start(state: Draft, netuid: int, block: int) -> None:
    """Let the subnet emit from the next block on."""
    state.put(st.FIRST_EMISSION_BLOCK, netuid, value=block + 1)
    state.put(st.SUBTOKEN_ENABLED, netuid, value=True)
