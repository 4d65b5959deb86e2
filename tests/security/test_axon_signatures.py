"""Signatures of sr25519 keys are believed and none of another scheme, of a request, an answer or evidence, by the SDK that is here."""

from __future__ import annotations

import asyncio
import inspect
import time
from dataclasses import replace

import pytest
from bittensor import http_auth

from gradients.axon import signatures
from gradients.axon.auth import answer_target
from gradients.axon.client import AxonClient
from gradients.axon.evidence import SignedAnswer
from gradients.axon.signatures import verify_signature
from gradients.axon.transport import ANSWER_METHOD
from gradients.domain.task import Hotkey
from gradients.errors import PeerUnreachable
from gradients.testing.axons import keypair_of
from tests.security.test_axon_client import VALID, Echo, Head, answer, hostile_peer

OURS = keypair_of("validator").ss58_address
SCHEMES = {"sr25519": 1, "ed25519": 0}


def signed(crypto_type: int, *, target: str = "/v1/echo", nonce_ns: int | None = None) -> dict[str, str]:
    """Headers of an answer of //axon's key of that scheme, to us."""
    key = keypair_of("axon", crypto_type=crypto_type)
    return dict(
        http_auth.sign(
            key, method=ANSWER_METHOD, path=target, body=VALID, receiver_ss58=OURS, nonce_ns=nonce_ns or time.time_ns()
        )
    )


def verify(headers: dict[str, str]) -> None:
    verify_signature(
        headers,
        VALID,
        method=ANSWER_METHOD,
        path="/v1/echo",
        receiver=OURS,
        nonces=http_auth.InMemoryNonceStore(),
    )


def test_a_signature_of_the_pinned_scheme_is_believed_and_one_of_another_is_not() -> None:
    verify(signed(SCHEMES["sr25519"]))
    with pytest.raises(http_auth.AuthError):
        verify(signed(SCHEMES["ed25519"]))


def test_a_scheme_that_a_header_only_claims_helps_nobody() -> None:
    headers = signed(SCHEMES["ed25519"])
    del headers[http_auth.HEADER_CRYPTO]
    with pytest.raises(http_auth.AuthError):
        verify(headers)


def test_an_answer_of_a_peer_with_another_scheme_is_no_answer() -> None:
    def serve(head: Head) -> bytes:
        target = answer_target(target=head[":target"], nonce=head["x-bittensor-nonce"], status=200)
        return answer(VALID, signed(SCHEMES["ed25519"], target=target))

    async def ask() -> None:
        client = AxonClient(keypair_of("validator"), allow_private=True)
        try:
            await client.post(stranger, "/v1/echo", Echo(text="hello"), answer=Echo)
        finally:
            await client.close()

    with hostile_peer(lambda connection, head: connection.sendall(serve(head))) as peer:
        stranger = replace(peer, hotkey=Hotkey(keypair_of("axon", crypto_type=0).ss58_address))
        with pytest.raises(PeerUnreachable) as caught:
            asyncio.run(ask())
    assert caught.value.code == "answer_unsigned"


@pytest.mark.parametrize(("scheme", "believed"), [("sr25519", True), ("ed25519", False)])
def test_evidence_is_of_the_pinned_scheme(scheme: str, believed: bool) -> None:
    headers = signed(SCHEMES[scheme], nonce_ns=1_700_000_000_000_000_000)
    evidence = SignedAnswer(
        VALID.decode(), "/v1/echo", int(headers[http_auth.HEADER_NONCE]), headers[http_auth.HEADER_SIGNATURE]
    )
    hotkey = keypair_of("axon", crypto_type=SCHEMES[scheme]).ss58_address
    assert evidence.is_from(hotkey, to=OURS) is believed


def test_the_sdk_is_told_the_scheme_where_it_can_be() -> None:
    can = "expected_crypto_type" in inspect.signature(http_auth.verify).parameters
    assert signatures.SDK_PINS is can
    assert ({"expected_crypto_type": 1} if can else {}) == signatures._PIN
