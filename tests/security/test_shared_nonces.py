"""Several processes that answer for one hotkey share what they have seen. Needs the Redis of scripts/services."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from gradients.axon import auth
from gradients.axon.auth import RedisNonces, nonces_at
from gradients.errors import SetupError

URL = "redis://127.0.0.1:63790/5"
CALLERS = 16


@pytest.fixture
def url() -> Iterator[str]:
    server = redis.Redis.from_url(URL, socket_connect_timeout=30)
    try:
        server.ping()
    except redis.RedisError:
        if os.environ.get("CI"):
            raise
        pytest.skip("scripts/services start")
    server.flushdb()
    yield URL
    server.flushdb()


def test_a_nonce_is_taken_once_by_all_processes_together(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "TIMEOUT_SECONDS", 60.0)  # all at once, on a busy machine
    stores = [RedisNonces(url) for _ in range(CALLERS)]
    now = time.time_ns()
    with ThreadPoolExecutor(CALLERS) as callers:
        taken = list(callers.map(lambda store: store.check_and_store("5x", now), stores))
    assert taken.count(True) == 1


def test_another_caller_or_another_nonce_is_another_thing(url: str) -> None:
    store, now = RedisNonces(url), time.time_ns()
    assert store.check_and_store("5x", now)
    assert store.check_and_store("5y", now)
    assert store.check_and_store("5x", now + 1)
    assert not store.check_and_store("5x", now)


def test_what_is_too_old_to_be_accepted_is_forgotten(url: str) -> None:
    RedisNonces(url).check_and_store("5x", 7)
    ttl = redis.Redis.from_url(url).ttl("gradients:nonce:5x:7")
    assert 0 < ttl <= RedisNonces.retention


def test_a_url_that_is_none_is_named() -> None:
    with pytest.raises(SetupError, match=r"axon\.nonces_url"):
        nonces_at("localhost:6379")
