"""Opening what is sealed to a drand round, with the round's published signature.

The chain learns a round's signature when drand publishes it. There is no network here, so it knows one: round 1000 of quicknet, a public
constant (subtensor: pallets/drand/src/tests.rs). Only what is sealed to that round can be opened; the rest stays sealed.
"""

from __future__ import annotations

import bittensor_core

from gradients.localchain.pallets import storage
from gradients.localchain.pallets.subtensor_types import Pulse
from gradients.localchain.scale.compact import encode_compact
from gradients.localchain.state import Draft, View

KNOWN_ROUND = 1000
KNOWN_SIGNATURE = bytes.fromhex(
    "b44679b9a59af2ec876b1a6b1ad52ea9b1615fc3982b19576350f93447cb1125e342b73a8dd2bacbe47e4b6b63ed5e39"
)


def publish_known_round(state: Draft) -> None:
    """Write the one round that this chain knows, as if drand had sent it."""
    state.put(storage.PULSES, KNOWN_ROUND, value=Pulse(KNOWN_ROUND, b"", KNOWN_SIGNATURE))
    state.put(storage.LAST_STORED_ROUND, value=KNOWN_ROUND)


def is_published(state: View, round_: int) -> bool:
    """Whether what is sealed to the round can be opened."""
    return state.has(storage.PULSES, round_)


def opened(state: View, sealed: bytes, round_: int) -> bytes | None:
    """What was sealed to a published round; None when the bytes were not sealed so."""
    pulse = state.get(storage.PULSES, round_)
    assert pulse is not None  # noqa: S101 (callers ask `is_published` first)
    envelope = encode_compact(len(sealed)) + sealed + round_.to_bytes(8, "little")
    try:
        return bytes(bittensor_core.decrypt_with_signature(envelope, pulse.signature.hex()))
    except ValueError:
        return None
