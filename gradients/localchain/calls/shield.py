"""Transactions that come encrypted (MevShield pallet). The block builder opens them; the call only takes note."""

from __future__ import annotations

from gradients.localchain.dispatch import Dispatch
from gradients.localchain.hashing import blake2_256
from gradients.localchain.pallets import events
from gradients.localchain.scale.hints import BoundedBytes


def submit_encrypted(call: Dispatch, ciphertext: BoundedBytes) -> None:
    """Accept an encrypted transaction of the signer's."""
    call.emit(events.MEV_SHIELD["EncryptedSubmitted"], blake2_256(call.signer + ciphertext), call.signer)
