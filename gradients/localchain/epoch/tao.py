"""A block's TAO, shared out over the subnets by price, burning and the gate (coinbase/subnet_emissions.rs).

The formula is gradients/domain/emission.py, which clients use too. A subnet's TAO goes into its pool together with as much alpha, so that
the price stays 1.
"""

from __future__ import annotations

from gradients.domain.emission import EmissionTerms, SubnetDemand
from gradients.localchain import stake, subnets
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.state import Draft, View

BLOCK_RAO = st.RAO_PER_TAO // 2  # what the chain makes in a block since its first halving


def pay(state: Draft, block: int) -> None:
    """Give every subnet its part of this block's TAO."""
    shares = terms(state, block).shares()
    for netuid in subnets.existing(state):
        rao = int(shares.get(netuid, 0.0) * BLOCK_RAO)
        if netuid != stake.ROOT and (rao or state.get(st.SUBNET_TAO_IN_EMISSION, netuid)):
            state.put(st.SUBNET_TAO_IN_EMISSION, netuid, value=rao)
            for pool in (st.SUBNET_TAO, st.SUBNET_ALPHA_IN):
                state.put(pool, netuid, value=state.get(pool, netuid) + rao)


def terms(state: View, block: int) -> EmissionTerms:
    """What the subnets that may emit are paid by."""
    return EmissionTerms(
        {
            netuid: SubnetDemand(
                price=state.get(st.SUBNET_MOVING_PRICE, netuid).bits / 2**32,
                miner_burned=state.get(st.MINER_BURNED, netuid).bits / 2**32,
                enabled=state.get(st.SUBNET_EMISSION_ENABLED, netuid),
            )
            for netuid in subnets.existing(state)
            if netuid != stake.ROOT and _may_emit(state, netuid, block)
        },
        gate_bar=state.get(st.EMISSION_GATE_BAR).bits / 2**64,
        gate_exponent=state.get(st.EMISSION_GATE_EXPONENT).bits / 2**64,
    )


def _may_emit(state: View, netuid: int, block: int) -> bool:
    first = state.get(st.FIRST_EMISSION_BLOCK, netuid)
    started = first is not None and first <= block
    return started and state.get(st.SUBTOKEN_ENABLED, netuid) and state.get(st.REGISTRATION_ALLOWED, netuid)
