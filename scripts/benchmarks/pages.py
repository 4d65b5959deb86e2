"""How long pages and the API's reads take over many tasks, over HTTP on loopback: for a stranger, and for a customer of half of them.

Requests come one after another, so what is timed is an answer and not a queue; elsewhere, others' work on the same cores is in it.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import httpx
from fastapi import FastAPI
from sqlalchemy import insert
from sqlalchemy.orm import Session

from gradients.axon.messages import AttemptStatus
from gradients.bases.bases import BaseModels
from gradients.chain.view import ChainView
from gradients.cli.daemon import settle
from gradients.clock import SystemClock
from gradients.conditions.state import Conditions
from gradients.datasets.access import Access
from gradients.domain.submission import BASE_ENTRANT, SubmissionState
from gradients.domain.task import Blob, Prepared, TaskRequest, TaskState, Window
from gradients.execution.process import ProcessExecutor
from gradients.repo.store import ContentStore
from gradients.testing.axons import keypair_of, serving_in_thread
from gradients.testing.fake_chain import FakeChain
from gradients.web.curves import Point
from scripts.benchmarks.timing import Figure
from validator.api.app import api_app
from validator.api.dependencies import Dependencies
from validator.api.rates import OwnRates
from validator.api.uploads import Uploads
from validator.board import Board
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.rows import EventRow, LedgerTable, MeasurementRow, PlacingRow, SubmissionRow, TaskRow
from validator.ledger.submissions import CHANGED
from validator.pages.app import add_pages, site
from validator.pages.dependencies import Pages
from validator.pages.sessions import Sessions
from validator.settings import EstimateSettings, PagesSettings
from validator.specs.estimates import Estimates
from validator.specs.intake import Intake
from validator.specs.rewards import RewardTrials

TASKS, MINERS, HELD_OUT_ROWS = 10_000, 8, 400
RUNNING = 20  # of the tasks
REQUESTS = 60  # of each page
BLOCKS_BETWEEN = 20  # of two tasks' deadlines
BATCH = 500
CUSTOMER = "acme"  # of half of the tasks
HOTKEYS = [keypair_of(f"miner {number}").ss58_address for number in range(256)]


def pages() -> Iterator[Figure]:
    """95th of 100 requests to every page, over 10,000 tasks of eight miners each."""
    with tempfile.TemporaryDirectory() as place:
        ledger = Ledger.open(f"sqlite:///{place}/ledger.db", SystemClock())
        began = time.perf_counter()
        fill(ledger)
        print(f"{TASKS:,} tasks written in {time.perf_counter() - began:.0f} s", flush=True)
        app, key = _app(Path(place), ledger)
        settle()  # as daemons do
        with serving_in_thread(app, host="127.0.0.1") as address:
            for who in ("stranger", "customer"):
                with httpx.Client(base_url=address.url(), trust_env=False, timeout=60) as client:
                    if who == "customer":
                        client.post("/sign-in", data={"key": key})
                    yield from (_timed(client, who, path) for path in _paths(signed_in=who == "customer"))
            with httpx.Client(
                base_url=address.url(), trust_env=False, timeout=60, headers={"Authorization": f"Bearer {key}"}
            ) as client:
                yield from (_timed(client, "API", path) for path in _reads(client))
        ledger.engine.dispose()


def _paths(*, signed_in: bool) -> list[str]:
    deep = f"/tasks?before={_created_at(TASKS // 10)!r}/{task_id_of(TASKS // 10)}"
    for_all = [
        "/",
        "/leaderboard",
        "/tasks",
        deep,
        "/tasks?state=failed",
        "/tasks?type=chat",
        f"/tasks/{task_id_of(5)}",
    ]
    return [
        *for_all,
        f"/tasks/{task_id_of(TASKS - 1)}",
        *(["/tasks?mine=true", "/account", "/new"] if signed_in else []),
    ]


def _reads(client: httpx.Client) -> list[str]:
    """What programs read: lists, searches, a page far down, tasks that are scored and that run, models, the account, the record."""
    far, cursor = TASKS // 4, ""
    while far > 0:
        page = client.get(f"/v1/tasks?limit=1000&cursor={cursor}" if cursor else "/v1/tasks?limit=1000").json()
        far, cursor = far - len(page["tasks"]), page["next"]
    scored, running = f"/v1/tasks/{task_id_of(8)}", f"/v1/tasks/{task_id_of(TASKS - 2)}"
    searches = ["?search=00270", "?search=nothing-has-this", "?state=assigned", "?type=chat&state=scored"]
    lists = [f"/v1/tasks{asked}" for asked in ("", "?limit=1000", f"?cursor={cursor}", *searches)]
    return [*lists, scored, running, "/v1/account", "/v1/record"]


def _timed(client: httpx.Client, who: str, path: str) -> Figure:
    taken = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        answer = client.get(path)
        taken.append(time.perf_counter() - began)
        answer.raise_for_status()
    taken.sort()
    slowest = taken[int(len(taken) * 0.95)]
    name, far, _ = path.replace("?cursor", "?before").partition("?before")
    name += " far down" if far else ""
    return Figure(f"{who} {name}: 95th of 100", "ms", *[1000 * each for each in (slowest, taken[0], taken[-1])])


def fill(ledger: Ledger, tasks: int = TASKS) -> None:
    """Tasks as a validator leaves them, the last of them still running; every other one is CUSTOMER's."""
    chance = random.Random(0)
    losses = [[round(chance.gauss(2, 0.1), 4) for _ in range(HELD_OUT_ROWS)] for _ in range(50)]
    for start in range(0, tasks, BATCH):
        numbers = range(start, min(start + BATCH, tasks))
        drawn = {number: chance.sample(HOTKEYS, MINERS) for number in numbers}
        with Session(ledger.engine) as session, session.begin():
            for table, rows in _rows(drawn, losses, running_from=tasks - RUNNING).items():
                session.execute(insert(table), rows)
    shares = {hotkey: 1 / len(HOTKEYS) for hotkey in HOTKEYS}
    for epoch in range(50):
        counted = [task_id_of(number) for number in range(min(500, tasks))]
        ledger.outbox.decide(f"weights:{epoch}", {"shares": shares, "tasks": counted}, block=epoch * 360)


def _rows(
    drawn: dict[int, list[str]], losses: list[list[float]], *, running_from: int
) -> dict[type[LedgerTable], list[dict[str, object]]]:
    found: dict[type[LedgerTable], list[dict[str, object]]] = {
        table: [] for table in (TaskRow, SubmissionRow, PlacingRow, MeasurementRow, EventRow)
    }
    for number, hotkeys in drawn.items():
        task_id, deadline = task_id_of(number), BLOCKS_BETWEEN * number
        runs = number >= running_from
        found[TaskRow].append(_task(number, TaskState.ASSIGNED if runs else TaskState.SCORED, deadline))
        found[EventRow] += [
            {
                "at": _created_at(number),
                "task_id": task_id,
                "name": CHANGED,
                "fields": {"hotkey": hotkeys[event % MINERS], "state": SubmissionState.STARTED},
            }
            for event in range(20)
        ]
        for rank, hotkey in enumerate(hotkeys, start=1):
            state = SubmissionState.STARTED if runs else SubmissionState.MEASURED
            found[SubmissionRow].append(
                {"task_id": task_id, "hotkey": hotkey, "uid": rank, "state": state, "recipe": "lora-tuned"}
            )
            if not runs:
                found[PlacingRow].append(_placing(number, hotkey, rank, deadline))
        for place, entrant in enumerate([] if runs else [BASE_ENTRANT, *hotkeys]):
            found[MeasurementRow].append(_measurement(number, entrant, losses[(number + place) % len(losses)]))
    return {table: rows for table, rows in found.items() if rows}


def _task(number: int, state: TaskState, deadline: int) -> dict[str, object]:
    kind = ("instruct", "chat", "dpo")[number % 3]
    request = TaskRequest(kind, "org/base@revision", {"kind": "hub", "id": "org/rows"}, {"max_tokens": 512}, 2.0)
    blob = Blob("c" * 64, 10)
    prepared = Prepared("b" * 64, 1_500_000_000, blob, blob, 9_000, HELD_OUT_ROWS, "e" * 64, (("repeated", 12),))
    return {
        "id": task_id_of(number),
        "state": state,
        "created_at": _created_at(number),
        "customer": CUSTOMER if number % 2 == 0 else f"customer {number % 50}",
        "request": asdict(request),
        "salt": b"s" * 32,
        "prepared": asdict(prepared),
        "window": asdict(Window(max(deadline - 600, 0), deadline, deadline + 50)),
        "draw": {"pool": HOTKEYS},
        "failure": None,
    }


def _placing(number: int, hotkey: str, rank: int, deadline: int) -> dict[str, object]:
    return {
        "task_id": task_id_of(number),
        "hotkey": hotkey,
        "task_type": "instruct",
        "rank": rank,
        "points": 1.0 if rank == 1 else 0.0,
        "adjusted_points": 1.0 if rank == 1 else 0.0,
        "gain": 0.2,
        "reason": f"rank {rank} of {MINERS}, 9.61% better than the base; best with a chance of 12.0%",
        "deadline_block": deadline,
        "rules_version": 2,
        "scored_at": _created_at(number) + 7200,
    }


def _measurement(number: int, entrant: str, rows: list[float]) -> dict[str, object]:
    return {
        "task_id": task_id_of(number),
        "entrant": entrant,
        "metric": "completion cross-entropy",
        "metric_version": 1,
        "unit": "nats/token",
        "better": "lower",
        "value": sum(rows) / len(rows),
        "stderr": 0.005,
        "per_row": rows,
        "extras": {"token mean": 2.0},
        "measured_at": _created_at(number) + 7000,
    }


def task_id_of(number: int) -> str:
    """The id of the task with this number."""
    return f"{('instruct', 'chat', 'dpo')[number % 3]}-{number:012x}"


def _created_at(number: int) -> float:
    return 1_700_000_000.0 + 240 * number


class _NobodySpeaks:
    """What miners say of tasks that only lie in a ledger."""

    def of(self, task_id: str, hotkey: str) -> AttemptStatus | None:
        """Nothing."""
        return None

    def curves(self, task_id: str) -> dict[str, list[Point]]:
        """A curve of each of eight."""
        return {hotkey: [(step, 4.0 - step / 100) for step in range(240)] for hotkey in HOTKEYS[:MINERS]}


def _app(folder: Path, ledger: Ledger) -> tuple[FastAPI, str]:
    """The API with its pages, and the key of a customer with tasks."""
    bases, folders, told, clock = BaseModels.default(), Folders(folder), _NobodySpeaks(), SystemClock()
    view = ChainView(FakeChain().gateway(HOTKEYS[0]), clock)
    asyncio.run(view.start())
    api = Dependencies(
        ledger=ledger,
        board=Board(ledger, told),
        intake=Intake(ledger, bases, folders, lambda: None),
        uploads=Uploads(folders.uploads, ledger.uploads, 1_000_000, 1_000_000),
        estimates=Estimates(bases, ProcessExecutor(), Access(), EstimateSettings()),
        rewards=RewardTrials(ProcessExecutor()),
        folders=folders,
        store=ContentStore(folders.blobs),
        conditions=Conditions(),
        rates=OwnRates(10_000_000),
    )
    app = api_app(api)
    add_pages(app, Pages(site(), api, Sessions(clock), view, told, ProcessExecutor(), PagesSettings()))
    return app, ledger.customers.issue(CUSTOMER)
