"""When a subnet's epoch is due (subtensor: run_coinbase/drain_pending_emissions.rs)."""

from __future__ import annotations

from gradients.localchain.pallets import subtensor as st
from gradients.localchain.state import View


def is_due(state: View, netuid: int, block: int) -> bool:
    """Whether the epoch runs in `block`."""
    tempo = state.get(st.TEMPO, netuid)
    if tempo == 0:
        return False
    pending = state.get(st.PENDING_EPOCH_AT, netuid)
    if 0 < pending <= block or state.get(st.BLOCKS_SINCE_LAST_STEP, netuid) > tempo:
        return True
    return block - state.get(st.LAST_EPOCH_BLOCK, netuid) >= tempo


def next_block(state: View, netuid: int) -> int | None:
    """The block in which the next epoch is expected; None when the subnet runs none."""
    tempo = state.get(st.TEMPO, netuid)
    if tempo == 0:
        return None
    by_tempo = state.get(st.LAST_EPOCH_BLOCK, netuid) + tempo
    pending = state.get(st.PENDING_EPOCH_AT, netuid)
    return min(by_tempo, pending) if pending else by_tempo


def epoch_with_lookahead(state: View, netuid: int, block: int) -> int:
    """The epoch that a commit in `block` belongs to: the next one already when it is due in this block."""
    return state.get(st.SUBNET_EPOCH_INDEX, netuid) + is_due(state, netuid, block)
