"""A task that is posted again under the same Idempotency-Key is posted once, whatever happens to the answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from gradients.client.aio import AsyncMarketClient
from gradients.client.api import MarketClient
from gradients.domain.task import TaskState
from gradients.errors import PeerUnreachable
from gradients.testing.clock import HandClock
from gradients.testing.loopback_site import Page, Request, loopback_site
from tests.e2e.api_market import Market, refusal_of
from validator.api.dependencies import Quotas

CARRIED = ("authorization", "content-type", "idempotency-key")
KEY = {"Idempotency-Key": "8e03978e-40d5-43e8-bc93-6894a57f9324"}


def test_the_same_request_gets_the_same_answer_whatever_has_become_of_the_task(market: Market) -> None:
    first = market.acme.post("/v1/tasks", json=market.spec(), headers=KEY)
    market.acme.post(f"/v1/tasks/{first.json()['id']}/cancel")
    again = market.acme.post("/v1/tasks", json=dict(reversed(market.spec().items())), headers=KEY)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert market.ledger.tasks.count() == len(market.posted) == 1


def test_a_key_with_another_body_is_refused_and_names_its_task(market: Market) -> None:
    first = market.acme.post("/v1/tasks", json=market.spec(), headers=KEY).json()
    refusal = refusal_of(market.acme.post("/v1/tasks", json=market.spec(hours=0.75), headers=KEY), 422)
    assert refusal["code"] == "idempotency_key_reused"
    assert first["id"] in refusal["message"]
    assert market.ledger.tasks.count() == 1


def test_a_key_is_its_customers_alone(market: Market) -> None:
    mine = market.acme.post("/v1/tasks", json=market.spec(), headers=KEY).json()
    theirs = market.client("rival").post("/v1/tasks", json=market.spec(hours=0.75), headers=KEY)
    assert theirs.status_code == 201
    assert theirs.json()["id"] != mine["id"]


def test_a_key_is_kept_for_a_day(market: Market) -> None:
    market.ledger.idempotency._clock = clock = HandClock()
    first = market.acme.post("/v1/tasks", json=market.spec(), headers=KEY).json()
    clock.time += 86_399
    assert market.acme.post("/v1/tasks", json=market.spec(), headers=KEY).json() == first
    clock.time += 1
    assert market.acme.post("/v1/tasks", json=market.spec(hours=0.75), headers=KEY).json()["id"] != first["id"]


def test_a_refused_request_leaves_its_key_free(market: Market) -> None:
    refusal_of(market.acme.post("/v1/tasks", json=market.spec(base="nowhere"), headers=KEY), 422)
    assert market.acme.post("/v1/tasks", json=market.spec(), headers=KEY).status_code == 201


def test_what_was_posted_before_is_no_task_too_many(market: Market) -> None:
    market.app.state.dependencies = replace(market.app.state.dependencies, quotas=Quotas(running_tasks=1))
    first = market.acme.post("/v1/tasks", json=market.spec(), headers=KEY).json()
    assert market.acme.post("/v1/tasks", json=market.spec(), headers=KEY).json() == first
    assert refusal_of(market.acme.post("/v1/tasks", json=market.spec()), 429)["code"] == "too_many_tasks"


def test_requests_of_one_moment_post_one_task(market: Market) -> None:
    clients = [market.client("acme") for _ in range(8)]
    with ThreadPoolExecutor(len(clients)) as pool:
        answers = list(pool.map(lambda client: client.post("/v1/tasks", json=market.spec(), headers=KEY), clients))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert market.ledger.tasks.count() == 1


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_a_length(market: Market, key: str) -> None:
    refusal_of(market.acme.post("/v1/tasks", json=market.spec(), headers={"Idempotency-Key": key}), 422)


def test_a_client_whose_answer_is_lost_asks_again_and_posts_once(market: Market) -> None:
    with _losing_answers(market.url, 2) as url, MarketClient(url, market.ledger.customers.issue("acme")) as client:
        posted = client.submit(market.spec())  # type: ignore[arg-type]  # of the test's own spec
    assert [task.id for task in market.ledger.tasks.list()] == [posted.id]
    assert posted.state is TaskState.DRAFT


def test_the_other_client_does_so_too(market: Market) -> None:
    async def submitted(url: str) -> str:
        async with AsyncMarketClient(url, market.ledger.customers.issue("acme")) as client:
            return (await client.submit(market.spec())).id  # type: ignore[arg-type]  # of the test's own spec

    with _losing_answers(market.url, 1) as url:
        posted = asyncio.run(submitted(url))
    assert [task.id for task in market.ledger.tasks.list()] == [posted]


def test_what_has_no_key_is_asked_once(market: Market) -> None:
    with _losing_answers(market.url, 1) as url, MarketClient(url, market.ledger.customers.issue("acme")) as client:
        with pytest.raises(PeerUnreachable):
            client.account()
        assert client.account().customer == "acme"


@contextlib.contextmanager
def _losing_answers(target: str, losses: int) -> Iterator[str]:
    """A way to the API on which the first so many answers are lost: the request arrives, and the connection breaks."""
    left = [losses]

    def carried(request: Request) -> Page:
        headers = {name: value for name, value in request.headers.items() if name in CARRIED}
        method = "POST" if request.body else "GET"
        answer = httpx.request(method, target + request.path, headers=headers, content=request.body, trust_env=False)
        if left[0]:
            left[0] -= 1
            raise ConnectionError("the answer is lost")
        return Page([answer.content], status=answer.status_code)

    with loopback_site(carried) as site:
        yield site.url
