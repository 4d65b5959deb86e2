"""An answer together with its signature, so that others can be shown later what a peer has said, and to whom.

Covers: that the peer's hotkey signed these bytes as its answer to this request. Does not cover: that it has not said something else before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bittensor import http_auth

from gradients.axon.auth import HEADER_HOTKEY, HEADER_NONCE, HEADER_SIGNATURE
from gradients.axon.signatures import verify_signature
from gradients.axon.transport import ANSWER_METHOD


@dataclass(frozen=True, slots=True)
class SignedAnswer:
    """What a peer has said."""

    body: str  # the answer's exact bytes as text
    target: str  # status, nonce and path of the request that it answers
    nonce_ns: int  # nanoseconds since the Unix epoch by the peer's clock
    signature: str  # hex

    @classmethod
    def of(cls, headers: Mapping[str, str], content: bytes, *, target: str) -> SignedAnswer:
        """An answer as it came in; its signature is checked already."""
        return cls(content.decode(), target, int(headers[HEADER_NONCE]), headers[HEADER_SIGNATURE])

    def is_from(self, hotkey: str, *, to: str) -> bool:
        """Whether `hotkey` signed this as an answer to the hotkey `to`."""
        headers = {
            http_auth.HEADER_VERSION: http_auth.VERSION,
            HEADER_HOTKEY: hotkey,
            HEADER_NONCE: str(self.nonce_ns),
            HEADER_SIGNATURE: self.signature,
            http_auth.HEADER_RECEIVER: to,
        }
        try:
            verify_signature(
                headers,
                self.body.encode(),
                method=ANSWER_METHOD,
                path=self.target,
                receiver=to,
                nonces=http_auth.InMemoryNonceStore(),
                now_ns=self.nonce_ns,
            )
        except http_auth.AuthError:
            return False
        return True
