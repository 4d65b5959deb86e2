"""A validator's pages over a ledger in a folder, and visitors of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gradients.axon.messages import AttemptStatus
from gradients.bases.bases import BaseModels
from gradients.clock import Clock
from gradients.conditions.state import Conditions
from gradients.datasets.access import Access
from gradients.doctor.findings import Finding
from gradients.domain.evaluation import Measurement, Metric
from gradients.domain.failure import Failure
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import TaskId, TaskRequest, TaskState
from gradients.execution.job import Executor
from gradients.repo.store import ContentStore
from gradients.testing.fake_chain import FakeChain
from gradients.web.curves import Point
from tests.unit.validator.market import TASK, WINDOW, Subnet, claimed, collected
from validator.api.app import api_app
from validator.api.dependencies import Dependencies
from validator.api.rates import OwnRates, Rates
from validator.api.uploads import Uploads
from validator.board import Board
from validator.folders import Folders
from validator.ledger import Ledger
from validator.pages.app import add_pages, site
from validator.pages.dependencies import Pages
from validator.pages.sessions import Sessions
from validator.settings import EstimateSettings, PagesSettings
from validator.specs.estimates import Estimates
from validator.specs.intake import Intake
from validator.specs.rewards import RewardTrials
from validator.stages.score import ScoreStage

METRIC = Metric("completion cross-entropy", "nats/token", 1, "lower")
ROWS = 50


@dataclass
class Told:
    """What miners say, as a test has them say it."""

    words: dict[str, AttemptStatus] = field(default_factory=dict)
    losses: dict[str, Sequence[Point]] = field(default_factory=dict)

    def of(self, task_id: str, hotkey: str) -> AttemptStatus | None:
        return self.words.get(hotkey)

    def curves(self, task_id: str) -> Mapping[str, Sequence[Point]]:
        return self.losses


@dataclass
class Served:
    """An application with pages, and who visits them."""

    app: FastAPI
    ledger: Ledger
    folders: Folders
    subnet: Subnet
    told: Told
    conditions: Conditions

    def visitor(self, key: str | None = None) -> httpx.Client:
        """A browser, signed in with a key where one is given."""
        # on loopback, where a cookie needs no TLS; the framework's client is httpx's
        visitor: httpx.Client = TestClient(self.app, base_url="http://127.0.0.1:8090", follow_redirects=False)  # type: ignore[assignment]
        visitor.headers["accept"] = "text/html"
        if key is not None:
            answer = visitor.post("/sign-in", data={"key": key, "then": "/account"})
            assert answer.headers["location"] == "/account", answer.text
        return visitor

    def customer(self, name: str = "acme") -> httpx.Client:
        """A customer that has signed in; `acme` owns the tasks of market.py."""
        return self.visitor(self.ledger.customers.issue(name))


def served(
    folder: Path,
    ledger: Ledger,
    clock: Clock,
    *,
    executor: Executor,
    bases: BaseModels,
    settings: PagesSettings | None = None,
    rates: Rates | None = None,
) -> Served:
    """Pages over the ledger, with a chain in memory that has been read."""
    told, folders, subnet = Told(), Folders(folder), Subnet(clock)
    asyncio.run(subnet.start())
    conditions = Conditions()
    conditions.update("ledger", [Finding("ledger", "ok", "answers")])
    api = Dependencies(
        ledger=ledger,
        board=Board(ledger, told),
        intake=Intake(ledger, bases, folders, lambda: None),
        uploads=Uploads(folders.uploads, ledger.uploads, 1_000_000, 2_000_000),
        estimates=Estimates(bases, executor, Access(), EstimateSettings()),
        rewards=RewardTrials(executor),
        folders=folders,
        store=ContentStore(folders.blobs),
        conditions=conditions,
        rates=rates or OwnRates(10_000),
    )
    app = api_app(api)
    sessions = Sessions(clock)
    add_pages(app, Pages(site(), api, sessions, subnet.view, told, executor, settings or PagesSettings()))
    return Served(app, ledger, folders, subnet, told, conditions)


def measured(
    ledger: Ledger,
    values: Mapping[str, float | Failure],
    request: TaskRequest | None = None,
    *,
    task_id: TaskId = TASK,
    base: float = 3.0,
) -> None:
    """A task in MEASURED; every row of an entrant lies near its value."""
    collected(ledger, list(values), request, task_id=task_id)
    lease = claimed(ledger, TaskState.COLLECTED).lease
    for entrant, value in {BASE_ENTRANT: base, **values}.items():
        if isinstance(value, Failure):
            ledger.submissions.failed(lease, entrant, value)
            continue
        noise = np.random.default_rng(round(value * 1000)).standard_normal(ROWS) / 100
        rows = tuple(map(float, value + noise - noise.mean()))
        ledger.submissions.measured(lease, Measurement(entrant, METRIC, value=value, stderr=0.01, per_row=rows))
    ledger.tasks.advance(lease, came_from=TaskState.COLLECTED, to=TaskState.MEASURED)


def scored(
    ledger: Ledger,
    clock: Clock,
    values: Mapping[str, float | Failure],
    request: TaskRequest | None = None,
    *,
    task_id: TaskId = TASK,
) -> None:
    """A task that is scored by the rules."""
    measured(ledger, values, request, task_id=task_id)

    async def score() -> None:
        chain = FakeChain()
        await chain.advance(WINDOW.deadline_block + 9)
        await ScoreStage(ledger, chain.gateway("validator"), clock).run(claimed(ledger, TaskState.MEASURED))

    asyncio.run(score())


def token_in(html: str, name: str = "csrf") -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]+)"', html)
    assert found is not None, html
    return found[1]
