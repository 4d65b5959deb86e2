"""The one place where a peer's signature is checked: btauth/1 by the SDK, of sr25519 keys only.

An address does not say by which scheme its key signs; the request does. Who takes any scheme trusts a stranger's word for which rules to
check by, so the scheme is pinned here. SDKs that can pin it themselves are told to (`expected_crypto_type`); 11.3 cannot, and says which
scheme it found.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from bittensor import http_auth

SR25519 = 1  # the SDK's number of the scheme
SDK_PINS = "expected_crypto_type" in inspect.signature(http_auth.verify).parameters
_PIN: dict[str, Any] = {"expected_crypto_type": SR25519} if SDK_PINS else {}  # Any: keywords of whichever SDK it is


def verify_signature(
    headers: Mapping[str, str],
    body: bytes,
    *,
    method: str,
    path: str,
    receiver: str,
    nonces: http_auth.NonceStore,
    max_age_seconds: float = http_auth.DEFAULT_MAX_AGE,
    allowed_skew_seconds: float = http_auth.DEFAULT_ALLOWED_SKEW,
    now_ns: int | None = None,
) -> None:
    """Raises http_auth.AuthError unless the headers are an sr25519 signature of this, for `receiver`, just now, and for the first time.

    Args:
        path: path and query exactly as they were sent.
        now_ns: nanoseconds since the Unix epoch; by default this machine's.
    """
    caller = http_auth.verify(
        headers,
        body,
        method=method,
        path=path,
        self_hotkey_ss58=receiver,
        max_age=max_age_seconds,
        allowed_skew=allowed_skew_seconds,
        nonce_store=nonces,
        now_ns=now_ns,
        **_PIN,
    )
    if caller.crypto_type != SR25519:
        raise http_auth.MalformedAuth("Only sr25519 signatures are accepted")
