"""Puts the real parts of a miner together. The only place that knows all of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

from gradients.axon.auth import MetagraphPolicy, nonces_at
from gradients.axon.client import AxonClient
from gradients.axon.limits import ServerLimits
from gradients.axon.reach import add_reach_route
from gradients.axon.server import signed_app
from gradients.bases.bases import BaseModels
from gradients.chain.network import Network
from gradients.chain.sdk import SdkGateway
from gradients.chain.view import ChainView
from gradients.chain.wallet import open_wallet
from gradients.clock import SystemClock
from gradients.conditions.state import Conditions
from gradients.config import device_environment
from gradients.execution.process import ProcessExecutor
from gradients.monitoring.requests import CountedRequests
from miner.attempt import Attempts
from miner.bases import KnownBases
from miner.daemon import Daemon
from miner.endpoints import Endpoints, add_routes
from miner.given_bases import GivenBases
from miner.journal import Journal
from miner.memory import GIB, Memory, installed_memory
from miner.outcomes import Outcomes
from miner.page.app import page_app
from miner.page.figures import Behind
from miner.plan import read_recipe
from miner.settings import MinerSettings
from miner.tracking.tracking import Tracking
from miner.trainings import Trainings

TO_TRAIN = ("folder", "gpu")  # conditions without which a task that is taken would fail


def build(settings: MinerSettings) -> Daemon:
    """A miner by its settings; nothing runs yet. Raises SetupError for what is missing."""
    network = Network.parse(settings.chain.network)
    network.check(wallet=settings.wallet.name, allow_local_paths=settings.allow_local_paths)
    recipe = read_recipe(settings.recipe)
    keys = open_wallet(settings.wallet.name, settings.wallet.hotkey, settings.wallet.path)
    gateway = SdkGateway(
        settings.chain.network, settings.chain.netuid, keys, timeout_seconds=settings.chain.call_timeout_seconds
    )
    clock, bases = SystemClock(), BaseModels.default(settings.caches, folders=settings.allow_local_paths)
    view = ChainView(
        gateway,
        clock,
        refresh_seconds=settings.chain.refresh_seconds,
        start_seconds=settings.chain.start_seconds,
    )
    client = AxonClient(keys.hotkey, allow_private=network.is_local)
    journal = Journal(settings.folder / "tasks")
    begun: asyncio.Queue[str] = asyncio.Queue()
    memory = allowed_memory(settings)
    conditions = Conditions()
    endpoints = Endpoints(
        journal=journal,
        gateway=gateway,
        view=view,
        bases=KnownBases(bases, GivenBases(client, view, bases.cache)),
        settings=settings,
        recipe=recipe,
        memory=memory,
        clock=clock,
        begin=begun.put_nowait,
        obstacle=lambda: conditions.against(*TO_TRAIN),
    )
    attempts = Attempts(
        Trainings(
            journal=journal,
            executor=ProcessExecutor(environment=device_environment()),
            bases=bases,
            recipe=recipe,
            memory=memory,
            settings=settings,
            clock=clock,
            tell=endpoints.tell,
            tracking=Tracking.by(settings),
        ),
        gateway=gateway,
        view=view,
        client=client,
        committing=asyncio.Lock(),
    )
    stake = settings.least_stake_alpha(is_local=network.is_local)
    policy = MetagraphPolicy(view.metagraph, validators_only=True, min_stake_alpha=stake)
    limits = ServerLimits(requests_per_minute=settings.axon.requests_per_minute)
    nonces = nonces_at(settings.axon.nonces_url)
    app = signed_app(keypair=keys.hotkey, policy=policy, nonces=nonces, limits=limits)
    app.add_middleware(cast(Any, CountedRequests), server="axon")
    add_routes(app, endpoints)
    add_reach_route(app, allow_private=network.is_local)
    outcomes = Outcomes(journal, view, attempts.client)
    behind = Behind(journal, view, gateway.hotkey, recipe.name, endpoints.status, endpoints.curves, conditions)
    page = page_app(behind, host=settings.page.host) if settings.page.serve else None
    return Daemon(gateway, view, journal, attempts, app, outcomes, settings, conditions, begun, page)


def allowed_memory(settings: MinerSettings) -> Memory:
    """What the operator allows of what is there."""
    installed = installed_memory(device_environment().get("CUDA_VISIBLE_DEVICES"))
    if settings.memory_gib is None:
        return installed
    return replace(installed, bytes=int(settings.memory_gib * GIB))
