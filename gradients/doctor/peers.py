"""Asking the subnet's axons whether the public address leads here: what no machine can see by itself."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Self

from gradients.axon.client import AxonClient, Peer
from gradients.axon.limits import ClientLimits
from gradients.axon.messages import Reach, ReachAnswer
from gradients.axon.reach import PATH
from gradients.chain.wallet import WalletKeys
from gradients.config import AxonSettings
from gradients.doctor.axon import from_here, listener, livez
from gradients.doctor.findings import Finding
from gradients.domain.chain import AxonAddress, Metagraph
from gradients.errors import OutsideError, PeerMisbehaved

MOST_ASKED = 4
_CONNECT_SECONDS, _ANSWER_SECONDS = 1.5, 5.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the axon that would be reached, and the keys that sign the question."""

    axon: AxonSettings
    keys: WalletKeys
    at_work: bool  # our daemon runs and answers; otherwise the doctor answers in its place
    is_local: bool  # peers may have addresses of a local network

    def ask(self, address: AxonAddress, own: Finding, metagraph: Metagraph) -> Finding:
        """The finding on the public address: by those peers who answer, or else by the trial from here (`own`)."""
        hotkey = self.keys.hotkey.ss58_address
        known = [neuron for neuron in metagraph.neurons if neuron.axon is not None and neuron.hotkey != hotkey]
        ranked = sorted(known, key=lambda neuron: neuron.stake_alpha, reverse=True)[:MOST_ASKED]
        peers = [Peer(neuron.hotkey, neuron.axon) for neuron in ranked if neuron.axon is not None]
        if not peers or metagraph.by_hotkey(hotkey) is None:
            return own
        ours = livez(from_here(self.axon.host, self.axon.port)) if self.at_work else None
        body = secrets.token_hex(16).encode() if ours is None else ours
        question = Reach(ip=address.ip, port=address.port, body_sha256=hashlib.sha256(body).hexdigest())
        try:
            with nullcontext() if ours is not None else _Answering(self.axon, body):
                answers = asyncio.run(self._answers(peers, question))
        except OSError:  # the port was taken meanwhile
            return own
        return _judged(address, own, answers)

    async def _answers(self, peers: Sequence[Peer], question: Reach) -> Sequence[ReachAnswer]:
        """Of those who answer at all: some are away, some are of a version that cannot be asked."""
        limits = ClientLimits(connect_seconds=_CONNECT_SECONDS, answer_seconds=_ANSWER_SECONDS)
        client = AxonClient(self.keys.hotkey, allow_private=self.is_local, limits=limits)

        async def one(peer: Peer) -> ReachAnswer | None:
            try:
                return await client.post(peer, PATH, question, answer=ReachAnswer)
            except (OutsideError, PeerMisbehaved):
                return None

        try:
            return [answer for answer in await asyncio.gather(*map(one, peers)) if answer is not None]
        finally:
            await client.close()


def _judged(address: AxonAddress, own: Finding, answers: Sequence[ReachAnswer]) -> Finding:
    """What peers say counts; without any, what was tried from here."""
    reached = sum(answer.reached for answer in answers)
    if not answers:
        return own
    if reached:
        return Finding("address", "ok", f"{address.url()} leads here, as {reached} of {len(answers)} peers have tried")
    reason = next(answer.reason for answer in answers if not answer.reached)
    found = f"{address.url()} was reached by none of {len(answers)} peers: {reason}"
    advice = (
        f"let {address.port}/tcp in from everywhere (firewall, cloud's security group, router's forwarding), or correct "
        "--external-ip and --external-port"
    )
    return Finding("address", "missing", found, advice)


class _Answering(ThreadingTCPServer):
    """A server in the daemon's place that answers everything with one body, while it is entered. Raises OSError where it cannot."""

    daemon_threads = True

    def __init__(self, axon: AxonSettings, body: bytes) -> None:
        super().__init__((axon.host, axon.port), _handler(body), bind_and_activate=False)
        self.socket.close()
        self.socket = listener(axon.host, axon.port)

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


def _handler(body: bytes) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _ANSWER_SECONDS

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Strangers' requests are not for the doctor's reader."""

    return Handler
