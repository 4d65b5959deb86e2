"""Whom a proxy speaks for, and how many requests an address, or a customer, may have under way."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from pydantic import ValidationError
from starlette.types import Message, Receive, Scope, Send

from gradients.domain.addresses import networks
from validator.api.callers import RequestsPerAddress, caller_of
from validator.api.dependencies import CustomerTurns
from validator.settings import ApiSettings

TRUSTED = networks(["10.0.0.0/8", "127.0.0.1"])
XFF: Literal["x-forwarded-for"] = "x-forwarded-for"


def asked(peer: str, *lines: str, header: str = XFF) -> Scope:
    headers = [(header.encode(), line.encode()) for line in lines]
    return {"type": "http", "client": (peer, 4711), "headers": headers, "path": "/"}


@pytest.mark.parametrize(
    ("peer", "lines", "caller"),
    [
        ("8.8.8.8", [], "8.8.8.8"),
        ("8.8.8.8", ["1.1.1.1"], "8.8.8.8"),  # a stranger says what it likes
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        ("127.0.0.1", ["9.9.9.9, 1.1.1.1"], "1.1.1.1"),  # the first was sent by the caller itself
        ("127.0.0.1", ["1.1.1.1, 10.0.0.7"], "1.1.1.1"),  # two proxies
        ("127.0.0.1", ["9.9.9.9", "1.1.1.1"], "1.1.1.1"),  # two lines are one list
        ("127.0.0.1", ["1.1.1.1:5000"], "1.1.1.1"),
        ("127.0.0.1", ["[2001:db8::1]:5000"], "2001:db8::1"),
        ("127.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("127.0.0.1", ["1.1.1.1, unknown"], "127.0.0.1"),
        ("127.0.0.1", ["1.1.1.1, "], "127.0.0.1"),
        ("127.0.0.1", ["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
    ],
)
def test_a_trusted_proxy_says_for_whom_it_speaks(peer: str, lines: list[str], caller: str) -> None:
    assert caller_of(asked(peer, *lines), TRUSTED, XFF) == caller


@pytest.mark.parametrize(
    ("line", "caller"),
    [
        ("for=1.1.1.1", "1.1.1.1"),
        ('for=9.9.9.9, For="[2001:db8::1]:80";proto=https;by=10.0.0.1', "2001:db8::1"),
        ("by=10.0.0.1;for=1.1.1.1:80", "1.1.1.1"),
        ("for=_hidden", "127.0.0.1"),
        ("for=1.1.1.1, by=10.0.0.1", "127.0.0.1"),
    ],
)
def test_the_standard_header_is_read_where_the_operator_says_so(line: str, caller: str) -> None:
    assert caller_of(asked("127.0.0.1", line, header="forwarded"), TRUSTED, "forwarded") == caller
    assert caller_of(asked("127.0.0.1", line, header="forwarded"), TRUSTED, XFF) == "127.0.0.1"


def test_an_address_has_so_many_requests_under_way_and_others_have_theirs() -> None:
    asyncio.run(_three_at_once())


async def _three_at_once() -> None:
    leave = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await leave.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def status(address: str) -> int:
        said: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            said.append(message)

        await limited(asked("127.0.0.1", address), receive, send)
        return int(said[0]["status"])

    limited = RequestsPerAddress(app, most=2, proxies=TRUSTED, header=XFF)
    waiting = [asyncio.create_task(status("1.1.1.1")) for _ in range(2)]
    await asyncio.sleep(0)
    assert await status("1.1.1.1") == 429
    other = asyncio.create_task(status("8.8.8.8"))
    unnamed = [asyncio.create_task(status("127.0.0.1")) for _ in range(5)]  # a proxy that names nobody
    leave.set()
    assert [await each for each in (*waiting, other, *unnamed)] == [200] * 8
    assert await status("1.1.1.1") == 200
    assert not limited.under_way


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0.1/8", "", "1.2.3"])
def test_a_proxy_that_is_not_an_address_or_network_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ApiSettings(trusted_proxies=(text,))


def test_a_customers_heavy_requests_wait_for_each_other_and_for_nobody_elses() -> None:
    async def asked() -> list[str]:
        turns, let_go, order = CustomerTurns(at_once=2), asyncio.Event(), list[str]()

        async def request(customer: str, name: str) -> None:
            async with turns.of(customer):
                order.append(name)
                await let_go.wait()

        requests = [asyncio.create_task(request("greedy", f"greedy {n}")) for n in range(4)]
        requests.append(asyncio.create_task(request("other", "other")))
        for _ in range(20):  # turns of the loop: whoever can begin has begun
            await asyncio.sleep(0)
        before = [*order]
        let_go.set()
        await asyncio.gather(*requests)
        assert len(order) == 5
        del requests
        assert len(turns.taken) == 0
        return before

    assert asyncio.run(asked()) == ["greedy 0", "greedy 1", "other"]
