"""One subnet's epoch on the chain's state: read it, run Yuma, write what the metagraph shows, pay (run_coinbase.rs)."""

from __future__ import annotations

import numpy as np

from gradients.localchain import neurons, stake
from gradients.localchain.epoch import yuma
from gradients.localchain.epoch.matrices import Counts, Mask, Matrix, Vector, normalized
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.declare import Storage
from gradients.localchain.pallets.subtensor_types import U96F32
from gradients.localchain.state import Draft, View

PER_MILLION = 1_000_000
PER_MILLE = 1000


class ConsensusUnknownError(Exception):
    """The subnet asks for a consensus that is not carried out here."""


def activity_cutoff(state: View, netuid: int) -> int:
    """Blocks after which a validator that set no weights counts as inactive."""
    return max(1, -(-state.get(st.ACTIVITY_CUTOFF_FACTOR, netuid) * state.get(st.TEMPO, netuid) // PER_MILLE))


def run(state: Draft, netuid: int, block: int) -> None:
    """Rate everybody, and pay what has piled up since the last epoch. Raises ConsensusUnknownError."""
    if state.get(st.EPOCH_CONSENSUS_MODE, netuid).variant != "Yuma":
        raise ConsensusUnknownError(f"subnet {netuid} asks for another consensus than Yuma, which is all there is here")
    outcome = yuma.run(_neuron_states(state, netuid, block), _rules(state, netuid))
    owner_cut = _drain(state, st.PENDING_OWNER_CUT, netuid)
    servers = _drain(state, st.PENDING_SERVER_EMISSION, netuid)
    validators = _drain(state, st.PENDING_VALIDATOR_EMISSION, netuid)
    _write(state, netuid, outcome, emitted=servers + validators)
    owner, owner_hotkey = state.get(st.SUBNET_OWNER, netuid), state.get(st.SUBNET_OWNER_HOTKEY, netuid)
    stake.add(state, hotkey=owner_hotkey, coldkey=owner, netuid=netuid, rao=owner_cut)
    hotkeys = stake.hotkeys(state, netuid)
    incentives = _whole(outcome.server_shares * (servers + validators)) if outcome.incentive.any() else []
    burned = 0
    for hotkey, rao in zip(hotkeys, incentives, strict=False):  # there may be none
        # Each miner's emission is staked to itself; what the owner's hotkeys earn is burned, as on the chain.
        coldkey = state.get(st.OWNER, hotkey)
        if coldkey == owner or hotkey == owner_hotkey:
            burned += rao
        elif rao:
            stake.add(state, hotkey=hotkey, coldkey=coldkey, netuid=netuid, rao=rao)
    if not incentives:
        validators += servers
    state.put(st.MINER_BURNED, netuid, value=part(burned, sum(incentives)))
    for hotkey, rao in zip(hotkeys, _whole(normalized(outcome.validator_shares) * validators), strict=True):
        if rao or state.has(st.ALPHA_DIVIDENDS, netuid, hotkey):
            state.put(st.ALPHA_DIVIDENDS, netuid, hotkey, value=rao)
        if rao:
            stake.pay_dividend(state, hotkey, netuid=netuid, rao=rao)


def _rules(state: View, netuid: int) -> yuma.Rules:
    low, high = state.get(st.ALPHA_VALUES, netuid)
    liquid = yuma.LiquidAlpha(low / st.U16_MAX, high / st.U16_MAX, state.get(st.ALPHA_SIGMOID_STEEPNESS, netuid))
    return yuma.Rules(
        kappa=state.get(st.KAPPA, netuid) / st.U16_MAX,
        bonds_moving_average=state.get(st.BONDS_MOVING_AVERAGE, netuid) / PER_MILLION,
        bonds_penalty=state.get(st.BONDS_PENALTY, netuid) / st.U16_MAX,
        max_validators=state.get(st.MAX_ALLOWED_VALIDATORS, netuid),
        activity_cutoff_blocks=activity_cutoff(state, netuid),
        stake_threshold_rao=state.get(st.STAKE_THRESHOLD),
        yuma3=state.get(st.YUMA3, netuid),
        liquid_alpha=liquid if state.get(st.LIQUID_ALPHA, netuid) else None,
    )


def _neuron_states(state: View, netuid: int, block: int) -> yuma.NeuronStates:
    seats = state.get(st.SUBNETWORK_N, netuid)
    last_step = state.get(st.LAST_STEP_BLOCK, netuid)
    registered = [state.get(st.BLOCK_AT_REGISTRATION, netuid, uid) for uid in range(seats)]
    return yuma.NeuronStates(
        block=block,
        bonds_since_block=last_step + 1 if last_step else max(0, block - state.get(st.TEMPO, netuid)),
        stake=np.array([each.total for each in stake.weights(state, netuid)], dtype=np.float64),
        weights=_matrix(state, st.WEIGHTS, netuid, seats=seats),
        bonds=_matrix(state, st.BONDS, netuid, seats=seats),
        permits=np.array(state.get(st.VALIDATOR_PERMIT, netuid), dtype=bool),
        last_update=np.array(state.get(st.LAST_UPDATE, netuid), dtype=np.int64),
        registered_at=np.array(registered, dtype=np.int64),
        committed_at=_oldest_commits(state, netuid, seats) if state.get(st.COMMIT_REVEAL_ENABLED, netuid) else None,
        owner_uid=neurons.owner_uid(state, netuid),
    )


def _matrix(state: View, item: Storage[list[tuple[int, int]]], netuid: int, *, seats: int) -> Matrix:
    matrix = np.zeros((seats, seats))
    for (uid,), row in state.entries(item, netuid).items():
        for target, value in row:
            matrix[int(uid), target] = value
    return matrix


def _oldest_commits(state: View, netuid: int, seats: int) -> Counts:
    """The block of each validator's oldest commit that can still be revealed; the largest number without one."""
    oldest = np.full(seats, np.iinfo(np.int64).max, dtype=np.int64)
    first_epoch = state.get(st.SUBNET_EPOCH_INDEX, netuid) - state.get(st.REVEAL_PERIOD_EPOCHS, netuid)
    for (epoch,), commits in state.entries(st.TIMELOCKED_COMMITS, netuid).items():
        for hotkey, block, _, _ in commits if int(epoch) >= first_epoch else []:
            uid = state.get(st.UIDS, netuid, hotkey)
            if uid is not None:
                oldest[uid] = min(oldest[uid], block)
    return oldest


def _write(state: Draft, netuid: int, outcome: yuma.Outcome, *, emitted: int) -> None:
    shares = normalized(outcome.server_shares + outcome.validator_shares)
    state.put(st.ACTIVE, netuid, value=_flags(outcome.active))
    state.put(st.EMISSION, netuid, value=_whole(shares * emitted))
    state.put(st.CONSENSUS, netuid, value=_u16(outcome.consensus))
    state.put(st.INCENTIVE, netuid, value=_u16(outcome.incentive))
    state.put(st.DIVIDENDS, netuid, value=_u16(outcome.dividends))
    state.put(st.VALIDATOR_TRUST, netuid, value=_u16(outcome.validator_trust))
    state.put(st.VALIDATOR_PERMIT, netuid, value=_flags(outcome.permits))
    state.put(st.STAKE_WEIGHT, netuid, value=_u16(outcome.stake_shares))
    for uid, row in enumerate(outcome.bonds):
        bonds = [(int(target), int(row[target])) for target in np.flatnonzero(row)]
        if bonds or state.has(st.BONDS, netuid, uid):
            state.put(st.BONDS, netuid, uid, value=bonds)


def _drain(state: Draft, item: Storage[int], netuid: int) -> int:
    pending = state.get(item, netuid)
    state.put(item, netuid, value=0)
    return pending


def part(rao: int, whole: int) -> U96F32:
    """The part that an amount is of a whole, rounded down as the chain's numbers are; 0 of nothing."""
    return U96F32((rao << 32) // whole if whole else 0)


def _u16(shares: Vector) -> list[int]:
    return [int(value) for value in np.floor(np.clip(shares, 0, 1) * st.U16_MAX + yuma.FLOOR_TOLERANCE)]


def _whole(amounts: Vector) -> list[int]:
    return [int(amount) for amount in np.floor(amounts + yuma.FLOOR_TOLERANCE)]


def _flags(mask: Mask) -> list[bool]:
    return [bool(flag) for flag in mask]
