"""Keys, scopes, quotas and rates of the customers' API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import httpx
import pytest
import redis

from gradients.client.account import NewKey
from gradients.client.answers import ApiRefused
from gradients.client.api import MarketClient
from gradients.domain.customer import Scope
from gradients.testing.clock import HandClock
from tests.e2e.api_market import ROWS, Market, refusal_of
from validator.api import rates
from validator.api.dependencies import OpenStreams, Quotas
from validator.api.rates import OwnRates, SharedRates
from validator.ledger.customers import Customers, keep_local_key

REDIS = "redis://127.0.0.1:63790"  # of scripts/services
NOWHERE = "redis://127.0.0.1:9"


@pytest.fixture
def admin(market: Market) -> MarketClient:
    opened = MarketClient(market.url, market.ledger.customers.issue("acme", scopes=tuple(Scope)))
    market.clients.callback(opened.__exit__)
    return opened


def with_key(market: Market, key: str) -> httpx.Client:
    client = httpx.Client(base_url=market.url, headers={"Authorization": f"Bearer {key}"}, timeout=120, trust_env=False)
    market.clients.callback(client.close)
    return client


def test_a_key_does_what_its_scopes_say_and_nothing_else(market: Market) -> None:
    task_id = market.posted_task()
    asked = {
        Scope.READ: [("GET", "/v1/tasks"), ("GET", f"/v1/tasks/{task_id}"), ("GET", "/v1/account")],
        Scope.SUBMIT: [
            ("POST", "/v1/tasks"),
            ("POST", "/v1/datasets?name=r.jsonl"),
            ("POST", f"/v1/tasks/{task_id}/cancel"),
        ],
        Scope.ADMIN: [("GET", "/v1/keys"), ("POST", "/v1/keys"), ("DELETE", "/v1/keys/0123456789abcdef")],
    }
    for scope in Scope:
        client = with_key(market, market.ledger.customers.issue("acme", scopes=[scope]))
        for needed, requests in asked.items():
            for method, path in requests:
                answer = client.request(method, path, content=b"nothing of any schema")
                if needed is scope:
                    assert answer.status_code != 403, (scope, path)
                else:
                    assert refusal_of(answer, 403)["code"] == "scope_missing"
    assert market.ledger.tasks.find(task_id) is not None


def test_a_key_is_shown_once_listed_without_itself_and_revoked_by_its_id(market: Market, admin: MarketClient) -> None:
    made = admin.make_key(NewKey(name="nightly", scopes=(Scope.READ,), expires_in_days=1))
    client = with_key(market, made.key)
    assert client.get("/v1/tasks").status_code == 200
    listed = admin.keys()
    assert [(key.name, key.scopes) for key in listed if key.id == made.id] == [("nightly", (Scope.READ,))]
    assert made.key not in json.dumps([key.model_dump(mode="json") for key in listed])
    revoked = admin.revoke_key(made.id)
    assert revoked.revoked_at is not None
    assert admin.revoke_key(made.id) == revoked  # again, it stays so
    assert refusal_of(client.get("/v1/tasks"), 401)["code"] == "key_refused"


def test_nobody_manages_anothers_keys(market: Market, admin: MarketClient) -> None:
    [theirs] = [
        key for _ in [market.ledger.customers.issue("globex")] for key in market.ledger.customers.keys_of("globex")
    ]
    with pytest.raises(ApiRefused) as caught:
        admin.revoke_key(theirs.id)
    assert (caught.value.status, caught.value.code) == (404, "not_found")
    listed = admin.keys()
    assert theirs.id not in [key.id for key in listed]
    assert market.ledger.customers.keys_of("globex")[0].revoked_at is None


def test_a_key_opens_nothing_from_the_second_on_at_which_it_expires(market: Market) -> None:
    clock = HandClock()
    market.ledger.customers._clock = clock
    key = market.ledger.customers.issue("acme", expires_at=clock.time + 60)
    client = with_key(market, key)
    clock.time += 59.9
    assert client.get("/v1/tasks").status_code == 200
    clock.time += 0.1
    refusal_of(client.get("/v1/tasks"), 401)


@pytest.mark.parametrize(
    "wanted",
    [{"scopes": []}, {"scopes": ["root"]}, {"expires_in_days": 0}, {"expires_in_days": 1e9}, {"customer": "globex"}],
)
def test_a_key_that_cannot_be_made_is_refused_by_field(
    market: Market, admin: MarketClient, wanted: dict[str, object]
) -> None:
    answer = admin._http.post("/v1/keys", json=wanted)
    assert next(iter(wanted)) in refusal_of(answer, 422)["message"]


def test_more_running_tasks_than_a_customer_may_have_are_refused_until_one_has_ended(
    market: Market, admin: MarketClient
) -> None:
    dependencies = market.app.state.dependencies
    market.app.state.dependencies = replace(dependencies, quotas=Quotas(running_tasks=2))
    first, _ = market.posted_task(), market.posted_task()
    refusal = refusal_of(market.acme.post("/v1/tasks", json=market.spec()), 429)
    assert (refusal["code"], "cancel one" in refusal["fix"]) == ("too_many_tasks", True)
    assert market.ledger.tasks.count() == 2
    assert market.client("globex").post("/v1/tasks", json=market.spec()).status_code == 201
    assert (admin.account().running_tasks.used, admin.account().running_tasks.most) == (2, 2)
    admin.cancel(first)
    market.posted_task()


def test_requests_of_all_keys_of_a_customer_count_together_and_retry_after_says_when(market: Market) -> None:
    """3 a minute: the next one has its share of a minute after 20 s."""
    dependencies = market.app.state.dependencies
    market.app.state.dependencies = replace(dependencies, rates=OwnRates(3))
    keys = [market.client("acme") for _ in range(4)]
    assert [key.get("/v1/tasks").status_code for key in keys[:3]] == [200] * 3
    answer = keys[3].get("/v1/tasks")
    assert refusal_of(answer, 429)["code"] == "too_many_requests"
    assert 10 < int(answer.headers["Retry-After"]) <= 20  # since the first of them
    assert market.client("globex").get("/v1/tasks").status_code == 200


def test_more_streams_than_a_customer_may_follow_are_refused_and_an_ended_one_makes_room(market: Market) -> None:
    dependencies = market.app.state.dependencies
    streams = OpenStreams()
    market.app.state.dependencies = replace(
        dependencies, quotas=Quotas(streams=1), streams=streams, stream_seconds=20.0
    )
    task_id = market.posted_task()
    with market.acme.stream("GET", f"/v1/tasks/{task_id}/events") as held:
        text = held.iter_text()  # which ends the stream when nobody has it any more
        next(text)
        assert refusal_of(market.acme.get(f"/v1/tasks/{task_id}/events"), 429)["code"] == "too_many_streams"
        assert market.client("globex").get("/v1/tasks").status_code == 200
    patience = time.monotonic() + 120
    while streams.counted:
        assert time.monotonic() < patience
        time.sleep(0.05)


def test_a_server_that_stops_ends_its_streams_in_order(market: Market) -> None:
    """Neither an error of the connection nor a cancelled answer: the body just ends, and the client comes again."""
    dependencies = market.app.state.dependencies
    market.app.state.dependencies = replace(dependencies, streams=OpenStreams(), stream_seconds=600.0)
    streams = market.app.state.dependencies.streams
    with market.acme.stream("GET", f"/v1/tasks/{market.posted_task()}/events") as held:
        heard = ""
        for text in held.iter_text():
            heard += text
            if "created" in heard:
                streams.closing.set()
    assert heard.count("event: task") == 1


def test_the_account_says_what_is_used(market: Market, admin: MarketClient) -> None:
    market.upload()
    account = admin.account()
    assert (account.customer, account.upload_bytes.used, set(account.key.scopes)) == ("acme", len(ROWS), set(Scope))


def test_processes_that_share_a_redis_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "ANSWER_SECONDS", 60.0)  # a busy machine's Redis is not one that is away
    try:
        redis.Redis.from_url(REDIS).ping()
    except redis.RedisError:
        if os.environ.get("CI"):
            raise
        pytest.skip("scripts/services start")
    one, other = SharedRates(3, REDIS), SharedRates(3, REDIS)
    customer = f"customer-{os.getpid()}-{time.monotonic_ns()}"
    assert [each.wait(customer) for each in (one, other, one)] == [0.0] * 3
    assert 0 < other.wait(customer) <= 60
    assert other.wait(f"{customer}-else") == 0.0


def test_without_its_redis_a_process_counts_by_itself() -> None:
    alone = SharedRates(2, NOWHERE)
    *taken, wait = [alone.wait("acme") for _ in range(3)]
    assert taken == [0.0, 0.0]
    assert 10 < wait <= 30


def test_the_key_of_this_machine_opens_everything_also_after_an_upgrade(market: Market) -> None:
    customers: Customers = market.ledger.customers
    file = market.folders.root / "api.key"
    older = customers.issue("local")
    file.write_text(older)
    keep_local_key(customers, file)
    found = customers.find(file.read_text())
    assert found is not None
    assert set(found.scopes) == set(Scope)
    assert customers.find(older) is None
    kept = file.read_text()
    keep_local_key(customers, file)
    assert file.read_text() == kept


def test_the_operator_makes_and_lists_keys_with_scopes_and_a_time(market: Market) -> None:
    def run(*arguments: str) -> str:
        command = [
            sys.executable,
            "-m",
            "gradients.cli",
            "validator",
            "key",
            *arguments,
            "--folder",
            str(market.folders.root),
        ]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout.strip()

    key = run("globex", "--name", "ci", "--scope", "read", "--days", "2")
    found = market.ledger.customers.find(key)
    assert found is not None
    assert (found.customer, found.name, found.scopes) == ("globex", "ci", (Scope.READ,))
    assert found.expires_at == pytest.approx(found.created_at + 2 * 86_400, abs=300)
    listed = run("globex", "--list")
    assert f"{found.id}  globex  ci  read  expires" in listed
    assert key not in listed
