"""Setting weights, in plain or sealed (subtensor: subnets/weights.rs). The checks stand in the chain's order."""

from __future__ import annotations

from collections.abc import Sequence

from gradients.localchain import neurons, schedule, stake
from gradients.localchain.dispatch import Dispatch, require
from gradients.localchain.hashing import blake2_256
from gradients.localchain.pallets import errors, events, storage
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.scale.hints import U8, U16, U64, BoundedBytes
from gradients.localchain.state import View

ERRORS = errors.SUBTENSOR
MAX_UNREVEALED = 10


def set_weights(call: Dispatch, netuid: U16, dests: list[U16], weights: list[U16], version_key: U64) -> None:
    """Set the signer's row of weights."""
    sealed = call.state.get(st.COMMIT_REVEAL_ENABLED, netuid)
    require(_has_stake(call.state, netuid, call.signer), ERRORS["NotEnoughStakeToSetWeights"])
    require(sealed or _may_write(call, netuid), ERRORS["SettingWeightsTooFast"])
    require(not sealed, ERRORS["CommitRevealEnabled"])
    apply_weights(call, netuid, dests=dests, weights=weights, version_key=version_key)


def set_mechanism_weights(
    call: Dispatch, netuid: U16, mecid: U8, dests: list[U16], weights: list[U16], version_key: U64
) -> None:
    """As `set_weights`; every subnet has one mechanism here."""
    require(mecid == 0, ERRORS["MechanismDoesNotExist"])
    set_weights(call, netuid, dests, weights, version_key)


def commit_timelocked_weights(
    call: Dispatch, netuid: U16, commit: BoundedBytes, reveal_round: U64, commit_reveal_version: U16
) -> None:
    """Hand in the signer's weights sealed to a drand round."""
    state = call.state
    require(_has_stake(state, netuid, call.signer), ERRORS["NotEnoughStakeToSetWeights"])
    require(reveal_round >= state.get(storage.LAST_STORED_ROUND), ERRORS["InvalidRevealRound"])
    require(_may_write(call, netuid), ERRORS["CommittingWeightsTooFast"])
    require(state.get(st.NETWORKS_ADDED, netuid), ERRORS["SubnetNotExists"])
    require(state.get(st.COMMIT_REVEAL_ENABLED, netuid), ERRORS["CommitRevealDisabled"])
    current = commit_reveal_version == state.get(st.COMMIT_REVEAL_VERSION)
    require(current, ERRORS["IncorrectCommitRevealVersion"])
    uid = state.get(st.UIDS, netuid, call.signer)
    require(uid is not None, ERRORS["HotKeyNotRegisteredInSubNet"])
    assert uid is not None  # noqa: S101 (for the type checker)
    epoch = schedule.epoch_with_lookahead(state, netuid, call.block)
    waiting = state.get(st.TIMELOCKED_COMMITS, netuid, epoch)
    own = sum(1 for who, *_ in waiting if who == call.signer)
    require(own < MAX_UNREVEALED, ERRORS["TooManyUnrevealedCommits"])
    waiting.append((call.signer, call.block, commit, reveal_round))
    state.put(st.TIMELOCKED_COMMITS, netuid, epoch, value=waiting)
    neurons.set_entry(state, st.LAST_UPDATE, netuid, uid=uid, value=call.block)
    call.emit(events.SUBTENSOR["TimelockedWeightsCommitted"], call.signer, netuid, blake2_256(commit), reveal_round)


def commit_timelocked_mechanism_weights(
    call: Dispatch, netuid: U16, mecid: U8, commit: BoundedBytes, reveal_round: U64, commit_reveal_version: U16
) -> None:
    """As `commit_timelocked_weights`; every subnet has one mechanism here."""
    require(mecid == 0, ERRORS["MechanismDoesNotExist"])
    commit_timelocked_weights(call, netuid, commit, reveal_round, commit_reveal_version)


def apply_weights(
    call: Dispatch, netuid: int, *, dests: Sequence[int], weights: Sequence[int], version_key: int
) -> None:
    """Check and write a row of weights; the regime's own question is the caller's."""
    state = call.state
    require(netuid != stake.ROOT, ERRORS["CanNotSetRootNetworkWeights"])
    require(len(dests) == len(weights), ERRORS["WeightVecNotEqualSize"])
    require(state.get(st.NETWORKS_ADDED, netuid), ERRORS["SubnetNotExists"])
    seats = state.get(st.SUBNETWORK_N, netuid)
    require(len(dests) <= seats, ERRORS["UidsLengthExceedUidsInSubNet"])
    uid = state.get(st.UIDS, netuid, call.signer)
    require(uid is not None, ERRORS["HotKeyNotRegisteredInSubNet"])
    assert uid is not None  # noqa: S101 (for the type checker)
    require(_has_stake(state, netuid, call.signer), ERRORS["NotEnoughStakeToSetWeights"])
    required_version = state.get(st.WEIGHTS_VERSION_KEY, netuid)
    require(version_key >= required_version, ERRORS["IncorrectWeightVersionKey"])
    sealed = state.get(st.COMMIT_REVEAL_ENABLED, netuid)
    require(sealed or _is_time(state, netuid, uid=uid, block=call.block), ERRORS["SettingWeightsTooFast"])
    only_self = len(weights) == 1 and dests[0] == uid
    permitted = uid == neurons.owner_uid(state, netuid) or state.get(st.VALIDATOR_PERMIT, netuid)[uid]
    require(only_self or permitted, ERRORS["NeuronNoValidatorPermit"])
    require(len(set(dests)) == len(dests), ERRORS["DuplicateUids"])
    require(all(dest < seats for dest in dests), ERRORS["UidVecContainInvalidOne"])
    fewest = min(seats, state.get(st.MIN_ALLOWED_WEIGHTS, netuid))
    require(only_self or len(weights) >= fewest, ERRORS["WeightVecLengthIsLow"])
    row = upscaled(weights)
    limit = state.get(st.MAX_WEIGHTS_LIMIT, netuid)
    within = limit == st.U16_MAX or max(row, default=0) * st.U16_MAX <= limit * sum(row)
    require(only_self or within, ERRORS["MaxWeightExceeded"])
    state.put(st.WEIGHTS, netuid, uid, value=list(zip(dests, row, strict=True)))
    if not sealed:
        neurons.set_entry(state, st.LAST_UPDATE, netuid, uid=uid, value=call.block)
    call.emit(events.SUBTENSOR["WeightsSet"], netuid, uid)


def upscaled(weights: Sequence[int]) -> list[int]:
    """The weights times what makes the largest of them 65535, rounded."""
    top = max(weights, default=0)
    return [round(weight * st.U16_MAX / top) for weight in weights] if top else list(weights)


def _has_stake(state: View, netuid: int, hotkey: bytes) -> bool:
    is_owner = hotkey == state.get(st.SUBNET_OWNER_HOTKEY, netuid) and state.has(st.UIDS, netuid, hotkey)
    return is_owner or stake.weight(state, hotkey, netuid).total >= state.get(st.STAKE_THRESHOLD)


def _may_write(call: Dispatch, netuid: int) -> bool:
    """Whether the rate limit lets the signer write; who has no seat meets another check later."""
    uid = call.state.get(st.UIDS, netuid, call.signer)
    return uid is None or _is_time(call.state, netuid, uid=uid, block=call.block)


def _is_time(state: View, netuid: int, *, uid: int, block: int) -> bool:
    last = state.get(st.LAST_UPDATE, netuid)[uid]
    return last == 0 or block - last >= state.get(st.WEIGHTS_SET_RATE_LIMIT, netuid)
