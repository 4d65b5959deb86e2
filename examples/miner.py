"""A whole miner in one file: one task at a time, a LoRA by transformers and peft, committed in time and shown after the deadline.

python -m examples.miner NETWORK NETUID COLDKEY HOTKEY IP PORT FOLDER      the hotkey is registered; docs/protocol.md has the rules
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import sys
import time
from pathlib import Path

from fastapi import FastAPI, Request, Response

from examples.training import train
from gradients.axon.auth import Caller, MetagraphPolicy
from gradients.axon.client import AxonClient, Peer
from gradients.axon.messages import AttemptStatus, Offer, OfferAnswer, Reveal, Start, StartAnswer
from gradients.axon.serve import serving
from gradients.axon.server import file_response, requires_caller, signed_app
from gradients.bases.bases import BaseModels
from gradients.chain.network import Network
from gradients.chain.sdk import SdkGateway
from gradients.chain.view import ChainView
from gradients.chain.wallet import open_wallet
from gradients.clock import SystemClock
from gradients.domain.chain import AxonAddress
from gradients.domain.commitment import Opening, payload
from gradients.errors import PeerRefused, PeerUnreachable
from gradients.repo.manifest import TrainingSummary, describe_folder, parse_manifest

SPARE_BLOCKS, SPARE_SECONDS = 4, 10.0  # for the commitment to be included in time
bases = BaseModels.default()


class Miner:
    """What it has promised, and what it can show. It remembers nothing when it is started again; the reference miner does."""

    def __init__(self, network: str, netuid: int, coldkey: str, hotkey: str, folder: Path) -> None:
        keys = open_wallet(coldkey, hotkey)
        self.keypair, self.folder = keys.hotkey, folder
        self.chain = SdkGateway(network, netuid, keys)
        self.view = ChainView(self.chain, SystemClock())
        self.client = AxonClient(keys.hotkey, allow_private=Network.parse(network).is_local)
        self.started: dict[str, Start] = {}
        self.reveals: dict[str, Reveal] = {}
        self.attempts = set[asyncio.Task[None]]()

    def offered(self, offer: Offer) -> OfferAnswer:
        """Yes to what it can train, while nothing else is under way: one commitment on chain stands for all open tasks."""
        busy = any(self.view.block <= start.deadline_block for start in self.started.values())
        known = offer.type == "instruct" and bases.resolve(offer.base).digest == offer.base_digest
        reason = "busy" if busy else "" if known else "neither this type nor this base is known here"
        return OfferAnswer(accepted=not reason, reason=reason, recipe="example")

    def begin(self, start: Start, validator: Caller) -> StartAnswer:
        """The same start may come twice, and is begun once."""
        task_id = start.offer.task_id
        if task_id in self.started:
            return StartAnswer(accepted=self.started[task_id] == start)
        answer = self.offered(start.offer)
        if answer.accepted:
            self.started[task_id] = start
            self.attempts.add(asyncio.create_task(self.attempt(start, validator)))
        return StartAnswer(accepted=answer.accepted, reason=answer.reason)

    async def attempt(self, start: Start, validator: Caller) -> None:
        """Fetch the rows, train, describe, commit. What is committed after the deadline block counts as nothing."""
        blocks = start.deadline_block - SPARE_BLOCKS - self.view.block
        ends = time.monotonic() + blocks * await self.chain.block_seconds() - SPARE_SECONDS
        rows = await self.rows(start, validator)
        repo, base = self.folder / start.offer.task_id, bases.resolve(start.offer.base)
        await asyncio.to_thread(train, base.folder, rows, repo, seed=start.seed, ends=ends)
        manifest = describe_folder(
            repo,
            task_id=start.offer.task_id,
            hotkey=self.chain.hotkey,
            base_digest=base.digest,
            kind="adapter",
            training=TrainingSummary(recipe="example"),
            terms_sha256=start.terms_sha256,
        ).text()
        salt, digest = secrets.token_hex(32), hashlib.sha256(manifest.encode()).hexdigest()
        leaf = Opening(self.chain.netuid, start.offer.task_id, self.chain.hotkey, digest, salt).leaf()
        await self.chain.commit(payload([leaf]))
        self.reveals[start.offer.task_id] = Reveal(  # of a single leaf there is nothing else to prove
            task_id=start.offer.task_id, manifest=manifest, salt=salt, proof=(), start=start
        )

    async def rows(self, start: Start, validator: Caller) -> list[dict[str, str]]:
        """The train rows, by their digest from the validator's axon."""
        neuron = self.view.metagraph().by_hotkey(validator.hotkey)
        if neuron is None or neuron.axon is None:
            raise PeerUnreachable(f"{validator.hotkey} serves no axon")
        content = b""
        async with self.client.stream(Peer(neuron.hotkey, neuron.axon), f"/v1/data/{start.train.sha256}") as chunks:
            async for chunk in chunks:
                content += chunk
                if len(content) > start.train.size_bytes:
                    break
        if hashlib.sha256(content).hexdigest() != start.train.sha256:
            raise PeerUnreachable("The rows are not the ones that were announced")
        return [json.loads(line) for line in content.splitlines()]

    def reveal(self, task_id: str) -> Reveal:
        """Nothing is shown to anybody before the deadline block has passed: whoever sees it could commit to it."""
        if task_id not in self.reveals or self.view.block <= self.started[task_id].deadline_block:
            raise PeerRefused("Sealed, or never committed", code="sealed")
        return self.reveals[task_id]

    def app(self) -> FastAPI:
        """Its routes; requests are signed by validators with a permit, answers by us."""
        app = signed_app(keypair=self.keypair, policy=MetagraphPolicy(self.view.metagraph, validators_only=True))

        @app.post("/v1/offers")
        async def offers(offer: Offer, caller: Caller = requires_caller) -> OfferAnswer:
            return await asyncio.to_thread(self.offered, offer)

        @app.post("/v1/tasks")
        async def tasks(start: Start, caller: Caller = requires_caller) -> StartAnswer:
            return self.begin(start, caller)

        @app.get("/v1/tasks/{task_id}")
        async def status(task_id: str, caller: Caller = requires_caller) -> AttemptStatus:
            done = task_id in self.reveals
            phase = "committed" if done else "training"
            return AttemptStatus.model_validate(
                {"task_id": task_id, "phase": phase, "recipe": "example", "fraction": float(done)}
            )

        @app.get("/v1/tasks/{task_id}/submission")
        async def submission(task_id: str, caller: Caller = requires_caller) -> Reveal:
            return self.reveal(task_id)

        @app.get("/v1/tasks/{task_id}/files/{name}")
        async def files(task_id: str, name: str, request: Request, caller: Caller = requires_caller) -> Response:
            file = parse_manifest(self.reveal(task_id).manifest).files.get(name)
            if file is None:
                raise PeerRefused("There is no such file", code="not_found")
            return file_response(self.folder / task_id / name, request, sha256=file.sha256)

        return app


async def main(network: str, netuid: str, coldkey: str, hotkey: str, ip: str, port: str, folder: str) -> None:
    """Serve until the process is stopped."""
    miner = Miner(network, int(netuid), coldkey, hotkey, Path(folder))
    await miner.view.start()
    async with serving(miner.app(), ip, int(port)):
        await miner.chain.publish_axon(AxonAddress(ip, int(port)))
        await miner.view.follow()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
