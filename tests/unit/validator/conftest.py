"""Ledgers on real databases, and a clock that tests turn."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from gradients.testing.clock import HandClock
from validator.ledger import Ledger

POSTGRES = "postgresql://gradients@127.0.0.1:54320/postgres"  # of scripts/services


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: HandClock) -> Iterator[Ledger]:
    opened = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", clock)
    yield opened
    opened.engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind that the ledger promises to work on."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    try:
        server = psycopg.connect(POSTGRES, autocommit=True)
    except psycopg.OperationalError:
        if os.environ.get("CI"):
            raise
        pytest.skip("scripts/services start")
    name = f"ledger_{uuid4().hex}"
    with contextlib.closing(server):
        server.execute(f"CREATE DATABASE {name}".encode())
        yield POSTGRES.replace("/postgres", f"/{name}")
        server.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
