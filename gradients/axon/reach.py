"""Trying a caller's own address for it: nobody behind a firewall or a router can tell by itself whether others reach it.

Covers: only addresses that any peer may have are called (client.py), one small question each, never followed elsewhere; the answer is
whether the body expected by the caller came, so nobody learns of a third machine what it does not know already. A caller may ask once
in `REST_SECONDS`. Does not cover: that a third machine is asked for /livez so often.
"""

from __future__ import annotations

import asyncio
import hashlib
import time

import httpx
from fastapi import FastAPI

from gradients.axon.auth import Caller
from gradients.axon.client import check_address
from gradients.axon.messages import Reach, ReachAnswer
from gradients.axon.server import requires_caller
from gradients.domain.chain import AxonAddress
from gradients.domain.task import Hotkey
from gradients.errors import PeerRefused, PeerUnreachable

PATH = "/v1/reach"
REST_SECONDS = 5.0  # of a caller between two questions
TRIAL_SECONDS = 3.0
AT_ONCE = 4  # trials of all callers together
MOST_BYTES = 1024  # of an answer


def add_reach_route(app: FastAPI, *, allow_private: bool) -> None:
    """POST /v1/reach: does what listens at my address answer /livez with the body that I expect?

    Args:
        allow_private: whether addresses of a local network are called too.
    """
    asked_at: dict[Hotkey, float] = {}  # by registered hotkeys alone, so it stays as small as the subnet
    under_way = asyncio.Semaphore(AT_ONCE)

    @app.post(PATH)
    async def reach(message: Reach, caller: Caller = requires_caller) -> ReachAnswer:
        now = time.monotonic()
        if now - asked_at.get(caller.hotkey, -REST_SECONDS) < REST_SECONDS or under_way.locked():
            raise PeerRefused(f"Ask again in {REST_SECONDS:.0f} s", code="rate_limited")
        asked_at[caller.hotkey] = now
        async with under_way:
            return await _tried(message, allow_private=allow_private)


async def _tried(message: Reach, *, allow_private: bool) -> ReachAnswer:
    """What came of calling the address."""
    address = AxonAddress(message.ip, message.port)
    try:
        check_address(address, allow_private=allow_private)
        async with asyncio.timeout(TRIAL_SECONDS):
            body = await _body(address.url("/livez"))
    except (PeerUnreachable, httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        return ReachAnswer(reached=False, reason=(str(error) or type(error).__name__)[:200])
    if hashlib.sha256(body).hexdigest() != message.body_sha256:
        return ReachAnswer(reached=False, reason="somebody else answers there")
    return ReachAnswer(reached=True)


async def _body(url: str) -> bytes:
    """The first bytes of what `url` answers."""
    body = b""
    async with (
        httpx.AsyncClient(timeout=TRIAL_SECONDS, follow_redirects=False, trust_env=False) as http,
        http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
    ):
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MOST_BYTES:
                break
    return body[:MOST_BYTES]
