"""The metagraph, and the neurons as a list."""

from __future__ import annotations

from gradients.localchain import stake
from gradients.localchain.epoch import subnet
from gradients.localchain.pallets import storage
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.apis import Metagraph, NeuronInfoLite
from gradients.localchain.pallets.subtensor_types import I64F64, AxonInfo, PrometheusInfo, SubnetIdentity
from gradients.localchain.state import View

PRICE_ONE = I64F64(1 << 32)  # clients read this field with 32 bits behind the point, as the chain writes it


def metagraph(state: View, netuid: int) -> Metagraph | None:
    """A subnet with all its neurons; None when the subnet does not exist."""
    if not state.get(st.NETWORKS_ADDED, netuid):
        return None
    hotkeys = stake.hotkeys(state, netuid)
    stakes = stake.weights(state, netuid)
    block, last_step = state.get(storage.NUMBER), state.get(st.LAST_STEP_BLOCK, netuid)
    identity = state.get(st.SUBNET_IDENTITIES, netuid)
    symbol = state.get(st.TOKEN_SYMBOL, netuid)
    alpha_low, alpha_high = state.get(st.ALPHA_VALUES, netuid)
    pending = state.get(st.PENDING_SERVER_EMISSION, netuid) + state.get(st.PENDING_VALIDATOR_EMISSION, netuid)
    nothing = [0] * len(hotkeys)
    return Metagraph(
        netuid=netuid,
        name=list((identity or SubnetIdentity()).subnet_name),
        symbol=list(symbol),
        identity=identity,
        network_registered_at=state.get(st.NETWORK_REGISTERED_AT, netuid),
        owner_hotkey=state.get(st.SUBNET_OWNER_HOTKEY, netuid),
        owner_coldkey=state.get(st.SUBNET_OWNER, netuid),
        block=block,
        tempo=state.get(st.TEMPO, netuid),
        last_step=last_step,
        blocks_since_last_step=block - last_step,
        alpha_in=state.get(st.SUBNET_ALPHA_IN, netuid),
        alpha_out=state.get(st.SUBNET_ALPHA_OUT, netuid),
        tao_in=state.get(st.SUBNET_TAO, netuid),
        alpha_out_emission=state.get(st.SUBNET_ALPHA_OUT_EMISSION, netuid),
        pending_alpha_emission=pending,
        moving_price=PRICE_ONE,
        rho=state.get(st.RHO, netuid),
        kappa=state.get(st.KAPPA, netuid),
        min_allowed_weights=state.get(st.MIN_ALLOWED_WEIGHTS, netuid),
        max_weights_limit=state.get(st.MAX_WEIGHTS_LIMIT, netuid),
        weights_version=state.get(st.WEIGHTS_VERSION_KEY, netuid),
        weights_rate_limit=state.get(st.WEIGHTS_SET_RATE_LIMIT, netuid),
        activity_cutoff=subnet.activity_cutoff(state, netuid),
        max_validators=state.get(st.MAX_ALLOWED_VALIDATORS, netuid),
        num_uids=len(hotkeys),
        max_uids=state.get(st.MAX_ALLOWED_UIDS, netuid),
        burn=state.get(st.BURN, netuid),
        difficulty=state.get(st.DIFFICULTY, netuid),
        registration_allowed=state.get(st.REGISTRATION_ALLOWED, netuid),
        pow_registration_allowed=state.get(st.POW_REGISTRATION_ALLOWED, netuid),
        immunity_period=state.get(st.IMMUNITY_PERIOD, netuid),
        min_difficulty=state.get(st.MIN_DIFFICULTY, netuid),
        max_difficulty=state.get(st.MAX_DIFFICULTY, netuid),
        min_burn=state.get(st.MIN_BURN, netuid),
        max_burn=state.get(st.MAX_BURN, netuid),
        adjustment_alpha=state.get(st.ADJUSTMENT_ALPHA, netuid),
        adjustment_interval=state.get(st.ADJUSTMENT_INTERVAL, netuid),
        target_regs_per_interval=state.get(st.TARGET_REGISTRATIONS, netuid),
        max_regs_per_block=state.get(st.MAX_REGISTRATIONS_PER_BLOCK, netuid),
        serving_rate_limit=state.get(st.SERVING_RATE_LIMIT, netuid),
        commit_reveal_weights_enabled=state.get(st.COMMIT_REVEAL_ENABLED, netuid),
        commit_reveal_period=state.get(st.REVEAL_PERIOD_EPOCHS, netuid),
        liquid_alpha_enabled=state.get(st.LIQUID_ALPHA, netuid),
        alpha_high=alpha_high,
        alpha_low=alpha_low,
        bonds_moving_avg=state.get(st.BONDS_MOVING_AVERAGE, netuid),
        hotkeys=hotkeys,
        coldkeys=[state.get(st.OWNER, hotkey) for hotkey in hotkeys],
        identities=[state.get(st.IDENTITIES, state.get(st.OWNER, hotkey)) for hotkey in hotkeys],
        axons=[state.get(st.AXONS, netuid, hotkey) or AxonInfo() for hotkey in hotkeys],
        active=state.get(st.ACTIVE, netuid),
        validator_permit=state.get(st.VALIDATOR_PERMIT, netuid),
        pruning_score=[],
        last_update=state.get(st.LAST_UPDATE, netuid),
        emission=state.get(st.EMISSION, netuid),
        dividends=state.get(st.DIVIDENDS, netuid),
        incentives=state.get(st.INCENTIVE, netuid),
        consensus=state.get(st.CONSENSUS, netuid),
        trust=[],
        rank=[],
        block_at_registration=[state.get(st.BLOCK_AT_REGISTRATION, netuid, uid) for uid in range(len(hotkeys))],
        alpha_stake=[each.alpha for each in stakes],
        tao_stake=[each.tao for each in stakes],
        total_stake=[each.total for each in stakes],
        tao_dividends_per_hotkey=[(hotkey, 0) for hotkey in hotkeys],
        alpha_dividends_per_hotkey=[(hotkey, state.get(st.ALPHA_DIVIDENDS, netuid, hotkey)) for hotkey in hotkeys],
        collateral_locked=nothing,
        collateral_min=nothing,
        collateral_earned=nothing,
    )


def neurons(state: View, netuid: int) -> list[NeuronInfoLite]:
    """A subnet's neurons in order of uid."""
    graph = metagraph(state, netuid)
    if graph is None:
        return []
    trust = state.get(st.VALIDATOR_TRUST, netuid)
    return [
        NeuronInfoLite(
            hotkey=hotkey,
            coldkey=graph.coldkeys[uid],
            uid=uid,
            netuid=netuid,
            active=graph.active[uid],
            axon_info=graph.axons[uid],
            prometheus_info=PrometheusInfo(),
            stake=[(graph.coldkeys[uid], graph.total_stake[uid])],
            emission=graph.emission[uid],
            incentive=graph.incentives[uid],
            consensus=graph.consensus[uid],
            validator_trust=trust[uid],
            dividends=graph.dividends[uid],
            last_update=graph.last_update[uid],
            validator_permit=graph.validator_permit[uid],
        )
        for uid, hotkey in enumerate(graph.hotkeys)
    ]
