"""What a block does before its transactions: open what is due, pile up emission, run epochs (block_step.rs)."""

from __future__ import annotations

from gradients.localchain import schedule, stake, subnets
from gradients.localchain.epoch import reveal, subnet, tao
from gradients.localchain.epoch.reveal import Deposit
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.declare import Storage
from gradients.localchain.state import Draft

EMISSION_RAO = st.RAO_PER_TAO  # alpha per subnet and block: what the chain emits until a subnet's first halving


def run(state: Draft, block: int, deposit: Deposit) -> None:
    """Everything that happens to subnets by itself in a block."""
    tao.pay(state, block)
    for netuid in subnets.existing(state):
        if netuid != stake.ROOT and state.get(
            st.TEMPO, netuid
        ):  # without a tempo no epoch would ever pay the alpha out
            reveal.weights(state, netuid, block=block, deposit=deposit)
            _emit(state, netuid, block)
            _advance(state, netuid, block)
    reveal.commitments(state, block, deposit)


def _emit(state: Draft, netuid: int, block: int) -> None:
    """Set aside this block's alpha: the owner's cut, and halves of the rest for miners and validators."""
    first = state.get(st.FIRST_EMISSION_BLOCK, netuid)
    if first is None or block < first:
        return
    cut = EMISSION_RAO * state.get(st.SUBNET_OWNER_CUT) // st.U16_MAX if state.get(st.OWNER_CUT_ENABLED, netuid) else 0
    servers = (EMISSION_RAO - cut) // 2
    state.put(st.SUBNET_ALPHA_OUT_EMISSION, netuid, value=EMISSION_RAO)
    _raise(state, st.PENDING_OWNER_CUT, netuid, by=cut)
    _raise(state, st.PENDING_SERVER_EMISSION, netuid, by=servers)
    _raise(state, st.PENDING_VALIDATOR_EMISSION, netuid, by=EMISSION_RAO - cut - servers)


def _advance(state: Draft, netuid: int, block: int) -> None:
    waited = state.get(st.BLOCKS_SINCE_LAST_STEP, netuid) + 1
    state.put(st.BLOCKS_SINCE_LAST_STEP, netuid, value=min(waited, state.get(st.TEMPO, netuid) + 1))
    if not schedule.is_due(state, netuid, block):
        return
    state.put(st.BLOCKS_SINCE_LAST_STEP, netuid, value=0)
    state.put(st.LAST_EPOCH_BLOCK, netuid, value=block)
    state.put(st.PENDING_EPOCH_AT, netuid, value=0)
    _raise(state, st.SUBNET_EPOCH_INDEX, netuid, by=1)
    subnet.run(state, netuid, block)
    state.put(st.LAST_STEP_BLOCK, netuid, value=block)


def _raise(state: Draft, item: Storage[int], netuid: int, *, by: int) -> None:
    state.put(item, netuid, value=state.get(item, netuid) + by)
