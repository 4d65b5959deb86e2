"""Publishing what a hotkey commits to (commitments pallet)."""

from __future__ import annotations

from typing import Annotated

from gradients.localchain.dispatch import Dispatch, require
from gradients.localchain.pallets import errors, events, storage
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.subtensor_types import CommitmentInfo, Registration, UsageTracker
from gradients.localchain.scale.choices import Choice
from gradients.localchain.scale.hints import U16, scale
from gradients.localchain.state import View

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
    used = _usage(state, netuid, who) + max(MIN_USED_SPACE, sum(map(_space, info.fields)))
    require(used <= state.get(storage.MAX_SPACE), ERRORS["SpaceLimitExceeded"])
    usage = UsageTracker(state.get(st.SUBNET_EPOCH_INDEX, netuid), used)
    state.put(storage.USED_SPACE_OF, netuid, who, value=usage)
    state.put(storage.COMMITMENT_OF, netuid, who, value=Registration(0, call.block, info))
    state.put(storage.LAST_COMMITMENT, netuid, who, value=call.block)
    _index(call, netuid, info)


def _usage(state: View, netuid: int, who: bytes) -> int:
    usage = state.get(storage.USED_SPACE_OF, netuid, who)
    return usage.used_space if usage and usage.last_epoch == state.get(st.SUBNET_EPOCH_INDEX, netuid) else 0


def _space(field: Choice) -> int:
    return len(field.parts[0]) if field.parts else 0


def _index(call: Dispatch, netuid: int, info: CommitmentInfo) -> None:
    """Keep the list of commitments that wait to be opened, and say what was committed."""
    entry = (netuid, call.signer)
    index = [each for each in call.state.get(storage.TIMELOCKED_INDEX) if each != entry]
    rounds = [field.parts[1] for field in info.fields if field.variant == SEALED]
    call.state.put(storage.TIMELOCKED_INDEX, value=[*index, entry] if rounds else index)
    if rounds:
        call.emit(EVENTS["TimelockCommitment"], netuid, call.signer, rounds[0])
    else:
        call.emit(EVENTS["Commitment"], netuid, call.signer)
