"""Publishing what a hotkey commits to (commitments pallet)."""

from __future__ import annotations

from typing import Annotated

from gradients.localchain.dispatch import Dispatch, require
from gradients.localchain.pallets import errors, events, storage
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.subtensor_types import CommitmentInfo, Registration, UsageTracker
from gradients.localchain.scale.hints import U16, scale

ERRORS = errors.COMMITMENTS
EVENTS = events.COMMITMENTS
MAX_FIELDS = 3
MIN_USED_SPACE = 100  # bytes that a commitment counts for at least
SEALED = "TimelockEncrypted"


def set_commitment(call: Dispatch, netuid: U16, info: Annotated[CommitmentInfo, scale(CommitmentInfo)]) -> None:
    """Replace the signer's commitment. What it says is not checked; how much it says in an epoch is."""
    state, who = call.state, call.signer
    require(state.has(st.UIDS, netuid, who), ERRORS["AccountNotAllowedCommit"])
    require(len(info.fields) <= MAX_FIELDS, ERRORS["TooManyFieldsInCommitmentInfo"])
    usage, epoch = state.get(storage.USED_SPACE_OF, netuid, who), state.get(st.SUBNET_EPOCH_INDEX, netuid)
    space = sum(len(field.parts[0]) for field in info.fields if field.parts)
    used = max(MIN_USED_SPACE, space) + (usage.used_space if usage and usage.last_epoch == epoch else 0)
    require(used <= state.get(storage.MAX_SPACE), ERRORS["SpaceLimitExceeded"])
    state.put(storage.USED_SPACE_OF, netuid, who, value=UsageTracker(epoch, used))
    state.put(storage.COMMITMENT_OF, netuid, who, value=Registration(0, call.block, info))
    state.put(storage.LAST_COMMITMENT, netuid, who, value=call.block)
    waiting = [entry for entry in state.get(storage.TIMELOCKED_INDEX) if entry != (netuid, who)]
    rounds = [field.parts[1] for field in info.fields if field.variant == SEALED]
    if rounds:
        state.put(storage.TIMELOCKED_INDEX, value=[*waiting, (netuid, who)])
        call.emit(EVENTS["TimelockCommitment"], netuid, who, rounds[0])
    else:
        state.put(storage.TIMELOCKED_INDEX, value=waiting)
        call.emit(EVENTS["Commitment"], netuid, who)
