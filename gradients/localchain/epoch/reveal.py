"""Opening sealed weights and sealed commitments when their time has come (reveal_commits.rs; commitments pallet)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from gradients.localchain import schedule
from gradients.localchain.calls.commitments import SEALED
from gradients.localchain.calls.weights import apply_weights
from gradients.localchain.dispatch import Dispatch, RefusedError
from gradients.localchain.epoch import drand
from gradients.localchain.pallets import events, storage
from gradients.localchain.pallets import subtensor as st
from gradients.localchain.pallets.subtensor_types import CommitmentInfo, Registration
from gradients.localchain.scale.compact import Reader
from gradients.localchain.scale.hints import U16, U64, scale
from gradients.localchain.state import Draft

Deposit = Callable[[bytes], None]

MAX_REVEALS = 10  # kept of one hotkey


@dataclass(frozen=True, slots=True)
class SealedWeights:
    """What a validator seals."""

    PATH: ClassVar[str] = "pallet_subtensor::coinbase::WeightsTlockPayload"
    hotkey: bytes
    uids: list[U16]
    values: list[U16]
    version_key: U64


def weights(state: Draft, netuid: int, *, block: int, deposit: Deposit) -> None:
    """Apply the commits whose reveal epoch this is; drop those whose reveal epoch has passed."""
    epoch = schedule.epoch_with_lookahead(state, netuid, block)
    due = epoch - state.get(st.REVEAL_PERIOD_EPOCHS, netuid)
    for (committed,) in list(state.entries(st.TIMELOCKED_COMMITS, netuid)):
        if int(committed) < due:
            state.delete(st.TIMELOCKED_COMMITS, netuid, int(committed))
    waiting = state.get(st.TIMELOCKED_COMMITS, netuid, due) if due >= 0 else []
    if not waiting:
        return
    still_sealed = [commit for commit in waiting if not drand.is_published(state, commit[3])]
    for hotkey, _, sealed, round_ in waiting:
        if drand.is_published(state, round_):
            _apply(Dispatch(state, block, hotkey, deposit), netuid, drand.opened(state, sealed, round_))
    if still_sealed:
        state.put(st.TIMELOCKED_COMMITS, netuid, due, value=still_sealed)
    else:
        state.delete(st.TIMELOCKED_COMMITS, netuid, due)


def commitments(state: Draft, block: int, deposit: Deposit) -> None:
    """Open sealed commitments whose round is published, and keep what they say."""
    for netuid, hotkey in state.get(storage.TIMELOCKED_INDEX):
        registration = state.get(storage.COMMITMENT_OF, netuid, hotkey)
        if registration is not None:
            _open_commitment(Dispatch(state, block, hotkey, deposit), netuid, registration)


def _apply(call: Dispatch, netuid: int, payload: bytes | None) -> None:
    """Set the weights, as if their validator had just done so; a commit that breaks a rule is dropped in silence."""
    saved = call.state.savepoint()
    try:
        sealed: SealedWeights = scale(SealedWeights).decode(Reader(payload or b""))
        if sealed.hotkey == call.signer:
            apply_weights(call, netuid, dests=sealed.uids, weights=sealed.values, version_key=sealed.version_key)
            call.emit(events.SUBTENSOR["TimelockedWeightsRevealed"], netuid, call.signer)
    except (ValueError, RefusedError):
        call.state.rollback(saved)


def _open_commitment(call: Dispatch, netuid: int, registration: Registration) -> None:
    """Move what opens to the revealed commitments, and keep the rest."""
    state, fields = call.state, registration.info.fields
    ready = [field for field in fields if field.variant == SEALED and drand.is_published(state, field.parts[1])]
    if not ready:
        return
    revealed = [text for text in (drand.opened(state, *field.parts) for field in ready) if text]
    known = state.get(storage.REVEALED_COMMITMENTS, netuid, call.signer) or []
    if revealed:
        history = [*known, *((text, call.block) for text in revealed)][-MAX_REVEALS:]
        state.put(storage.REVEALED_COMMITMENTS, netuid, call.signer, value=history)
        call.emit(events.COMMITMENTS["CommitmentRevealed"], netuid, call.signer)
    rest = [field for field in fields if field not in ready]
    if rest:
        state.put(storage.COMMITMENT_OF, netuid, call.signer, value=replace(registration, info=CommitmentInfo(rest)))
    else:
        state.delete(storage.COMMITMENT_OF, netuid, call.signer)
    if not any(field.variant == SEALED for field in rest):
        index = [entry for entry in state.get(storage.TIMELOCKED_INDEX) if entry != (netuid, call.signer)]
        state.put(storage.TIMELOCKED_INDEX, value=index)
