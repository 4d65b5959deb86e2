"""What a peer does who is asked to call an address: it calls those that peers may have, says no more than yes or no, and not often."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from gradients.axon.auth import MetagraphPolicy
from gradients.axon.client import AxonClient, Peer
from gradients.axon.messages import Reach, ReachAnswer
from gradients.axon.reach import PATH, add_reach_route
from gradients.axon.server import signed_app
from gradients.domain.task import Hotkey
from gradients.errors import PeerRefused
from gradients.testing.axons import HOST, keypair_of, metagraph_of, neuron_of, serving_in_thread, warm_nonces

WORD = b"only the caller knows this"


@contextmanager
def answering(body: bytes, *, status: int = 200, location: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """A machine that answers everything alike: its port, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            if location is not None:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Not for the test's output."""

    with HTTPServer((HOST, 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1], asked
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def asked_peer(*, allow_private: bool = True) -> Iterator[Peer]:
    graph = metagraph_of(neuron_of("peer", uid=0), neuron_of("caller", uid=1), neuron_of("another", uid=2))
    app = signed_app(keypair=keypair_of("peer"), policy=MetagraphPolicy(lambda: graph), nonces=warm_nonces())
    add_reach_route(app, allow_private=allow_private)
    with serving_in_thread(app) as address:
        yield Peer(Hotkey(keypair_of("peer").ss58_address), address)


def ask(peer: Peer, port: int, *, ip: str = HOST, word: bytes = WORD, caller: str = "caller") -> ReachAnswer:
    question = Reach(ip=ip, port=port, body_sha256=hashlib.sha256(word).hexdigest())

    async def asking() -> ReachAnswer:
        client = AxonClient(keypair_of(caller), allow_private=True)
        try:
            return await client.post(peer, PATH, question, answer=ReachAnswer)
        finally:
            await client.close()

    return asyncio.run(asking())


def test_an_address_that_answers_with_the_callers_word_is_reached() -> None:
    with answering(WORD) as (port, asked), asked_peer() as peer:
        assert ask(peer, port) == ReachAnswer(reached=True)
    assert asked == ["/livez"]


def test_what_a_third_machine_answers_is_told_to_nobody() -> None:
    with answering(b"secret of a third machine") as (port, _), asked_peer() as peer:
        assert ask(peer, port) == ReachAnswer(reached=False, reason="somebody else answers there")


def test_a_peer_is_sent_nowhere_else() -> None:
    with (
        answering(WORD) as (other, asked),
        answering(b"", status=302, location=f"http://{HOST}:{other}/livez") as (port, _),
        asked_peer() as peer,
    ):
        assert ask(peer, port).reached is False
    assert asked == []


@pytest.mark.parametrize("ip", [HOST, "10.0.0.1", "169.254.169.254", "::1", "localhost"])
def test_on_a_public_network_no_address_of_the_peers_own_site_is_called(ip: str) -> None:
    with answering(WORD) as (port, asked), asked_peer(allow_private=False) as peer:
        answer = ask(peer, port, ip=ip)
    assert (answer.reached, "not an address that peers may have" in answer.reason, asked) == (False, True, [])


def test_a_port_that_is_closed_is_told() -> None:
    with answering(WORD) as (port, _):
        pass
    with asked_peer() as peer:
        answer = ask(peer, port)
    assert (answer.reached, answer.reason) == (False, "All connection attempts failed")


def test_an_endless_answer_is_read_no_further_than_a_word_is_long() -> None:
    with answering(WORD * 100_000) as (port, _), asked_peer() as peer:
        assert ask(peer, port).reached is False


def test_a_caller_asks_again_after_a_rest_and_others_need_not_wait_for_it() -> None:
    with answering(WORD) as (port, asked), asked_peer() as peer:
        assert ask(peer, port).reached
        with pytest.raises(PeerRefused) as caught:
            ask(peer, port)
        assert caught.value.code == "rate_limited"
        assert ask(peer, port, caller="another").reached
    assert len(asked) == 2


def test_strangers_may_not_ask() -> None:
    with answering(WORD) as (port, asked), asked_peer() as peer, pytest.raises(PeerRefused) as caught:
        ask(peer, port, caller="stranger")
    assert (caught.value.code, asked) == ("not_registered", [])
