"""Stores of nonces where they are more than a dictionary: before the start, and away."""

from __future__ import annotations

import socket
import time

import pytest

from gradients.axon.auth import ALLOWED_SKEW_SECONDS, Nonces, NoncesUnavailable, RedisNonces
from gradients.errors import Blame


def test_a_nonce_from_before_the_start_is_refused_though_it_was_never_seen() -> None:
    started = 1_000 * 10**9
    nonces = Nonces(started_ns=started)
    earliest = started + int(ALLOWED_SKEW_SECONDS * 1e9)  # a request from before the start may be that far ahead

    assert not nonces.check_and_store("5x", earliest - 1)
    assert nonces.check_and_store("5x", earliest)
    assert not nonces.check_and_store("5x", earliest)
    assert nonces.check_and_store("5y", earliest)


def test_nobody_is_let_in_while_the_shared_store_is_away() -> None:
    with socket.create_server(("127.0.0.2", 0)) as listener:
        port = listener.getsockname()[1]
    nonces = RedisNonces(f"redis://127.0.0.2:{port}/0")

    with pytest.raises(NoncesUnavailable) as caught:
        nonces.check_and_store("5x", time.time_ns())

    assert caught.value.blame is Blame.OUTSIDE
