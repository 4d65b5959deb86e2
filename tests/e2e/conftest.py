"""The customers' API, served once for a module, where each test has a ledger of its own behind it; and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gradients.bases.bases import BaseModels
from gradients.clock import SystemClock
from gradients.conditions.state import Conditions
from gradients.testing.axons import serving_in_thread
from gradients.testing.tiny_models import write_tiny_llama
from tests.e2e.api_market import Market, Served, dependencies_of
from validator.api.app import api_app
from validator.folders import Folders
from validator.ledger import Ledger

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> BaseModels:
    folder = tmp_path_factory.mktemp("bases")
    write_tiny_llama(folder / "tiny")
    return BaseModels(shipped=folder, cache=folder / "cache")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, bases: BaseModels) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    ledger = Ledger.open(f"sqlite:///{folder}/ledger.db", SystemClock())
    app = api_app(dependencies_of(ledger, folder, bases, [], Conditions()))
    with serving_in_thread(app) as address:
        yield Served(app, address.url())
    ledger.engine.dispose()


@pytest.fixture
def market(tmp_path: Path, bases: BaseModels, served: Served) -> Iterator[Market]:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", SystemClock())
    market = Market(served.url, ledger, Folders(tmp_path), [], served.app)
    served.app.state.dependencies = dependencies_of(ledger, tmp_path, bases, market.posted, market.conditions)
    yield market
    market.clients.close()
    ledger.engine.dispose()


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Ask for it last: while it runs there is an event loop in this thread."""
    from tests.e2e.browsing import chromium  # which other tests need not load

    with chromium() as running:
        yield running
