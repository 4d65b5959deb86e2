"""Puts the real parts of a validator together. The only place that knows all of them."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from typing import Any, cast

from fastapi import FastAPI

from gradients.axon.auth import MetagraphPolicy, nonces_at
from gradients.axon.client import AxonClient
from gradients.axon.limits import ServerLimits
from gradients.axon.reach import add_reach_route
from gradients.axon.server import signed_app
from gradients.bases.bases import BaseModels
from gradients.chain.network import Network
from gradients.chain.sdk import SdkGateway
from gradients.chain.view import ChainView
from gradients.chain.wallet import WalletKeys, open_wallet
from gradients.clock import SystemClock
from gradients.cluster.executor import RayExecutor
from gradients.conditions.state import Conditions
from gradients.config import device_environment, ray_environment
from gradients.datasets.access import Access
from gradients.domain.task import TaskState
from gradients.errors import SetupError
from gradients.execution.accelerator import torch_may_use_gpu
from gradients.execution.devices import Devices
from gradients.execution.job import Executor
from gradients.execution.process import ProcessExecutor
from gradients.execution.warm import WarmExecutor
from gradients.monitoring.requests import CountedRequests
from gradients.record.versions import versions
from gradients.repo.store import ContentStore
from validator.api.app import api_app
from validator.api.dependencies import Dependencies, OpenStreams, Quotas
from validator.api.rates import rates_at
from validator.api.uploads import Uploads
from validator.axon_app import add_data_route, add_outcome_route
from validator.board import Board
from validator.confinement import Confinement, confinement
from validator.daemon import Daemon
from validator.engine import Stage, StepEngine
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.customers import keep_local_key
from validator.measuring.devices import devices_of, devices_of_nodes
from validator.pages.app import add_pages, site
from validator.pages.dependencies import Pages
from validator.pages.sessions import Sessions
from validator.pay.emission import Emission
from validator.progress import ProgressBoard
from validator.pruning import Pruner
from validator.recording import Recorder
from validator.schedule import Schedule
from validator.settings import ValidatorSettings
from validator.specs.estimates import Estimates
from validator.specs.intake import Intake
from validator.specs.places import FetchPlaces
from validator.specs.rewards import RewardTrials
from validator.stages.collect import CollectStage
from validator.stages.measure import MeasureStage
from validator.stages.offer import OfferStage
from validator.stages.prepare import PrepareStage, Turns
from validator.stages.score import ScoreStage

# Conditions without which every miner, or the chain, refuses us.
TO_OFFER = ("registered", "permit")
TO_SET_WEIGHTS = ("registered", "permit", "stake")
ESTIMATE_CPU_SECONDS = 300  # of the worker that reads a spec's data


def build(settings: ValidatorSettings) -> Daemon:
    """A validator by its settings; nothing runs yet. Raises SetupError for what is missing."""
    network = Network.parse(settings.chain.network)
    if settings.seed is not None and not network.is_local:
        raise SetupError("A seed makes secret salts predictable", fix="Remove `seed` outside of a local network")
    network.check(wallet=settings.wallet.name, allow_local_paths=settings.allow_local_paths)
    confined = confinement(settings.sandbox, is_local=network.is_local)
    folders = Folders(settings.folder)
    cluster = _cluster(settings, confined) if settings.executor == "ray" else None
    workers = cluster or _local_workers(settings, folders, confined)
    # an estimate is an answer that somebody waits for
    quick = settings.reading.model_copy(update={"cpu_seconds": min(settings.reading.cpu_seconds, ESTIMATE_CPU_SECONDS)})
    keys = open_wallet(settings.wallet.name, settings.wallet.hotkey, settings.wallet.path)
    gateway = SdkGateway(
        settings.chain.network, settings.chain.netuid, keys, timeout_seconds=settings.chain.call_timeout_seconds
    )
    clock = SystemClock()
    ledger = Ledger.open(settings.resolved_ledger_url(), clock)
    keep_local_key(ledger.customers, folders.api_key)
    view = ChainView(
        gateway,
        clock,
        refresh_seconds=settings.chain.refresh_seconds,
        start_seconds=settings.chain.start_seconds,
    )
    client = AxonClient(keys.hotkey, allow_private=network.is_local)
    bases = BaseModels.default(settings.caches, folders=settings.allow_local_paths)
    store = ContentStore(folders.blobs)
    uploads = Uploads(
        folders.uploads,
        ledger.uploads,
        settings.api.max_upload_bytes,
        settings.api.max_upload_bytes_per_customer,
        settings.allow_local_paths,
        settings.api.unfinished_upload_hours * 3600,
    )
    access = Access(private_addresses=network.is_local, s3=settings.s3.access())
    devices = _devices(settings, workers, folders)
    stages = _stages(settings, ledger, gateway, view, client, clock, bases, store, folders, access, workers, devices)
    conditions = Conditions()
    engine = StepEngine(
        ledger,
        view,
        stages,
        owner=f"{gateway.hotkey[:16]}/{os.getpid()}",
        at_once={
            TaskState.DRAFT: settings.reading.fetches_at_once,
            TaskState.COLLECTED: settings.measure.tasks_at_once,
        },
        one_per_customer=(TaskState.DRAFT,),
        obstacles={TaskState.OPEN: lambda: conditions.against(*TO_OFFER)},
    )
    progress = ProgressBoard(ledger, view, client)
    intake = Intake(ledger, bases, folders, engine.wake, settings.seed)
    seed = secrets.randbits(63) if settings.seed is None else settings.seed
    streams = OpenStreams()
    return Daemon(
        gateway=gateway,
        view=view,
        client=client,
        engine=engine,
        emission=Emission(
            ledger,
            gateway,
            view,
            clock,
            settings=settings.emission,
            obstacle=lambda: conditions.against(*TO_SET_WEIGHTS),
        ),
        progress=progress,
        recorder=Recorder(ledger, gateway, keys.hotkey, folders, clock, _versions(settings)),
        pruner=Pruner(ledger, folders, store, uploads, clock, settings.keep, bases),
        schedule=Schedule(ledger, intake, clock, settings.schedule, seed=seed),
        axon_app=_axon_app(settings, keys, view, ledger, store),
        api_app=_customers_app(
            settings,
            Dependencies(
                ledger=ledger,
                board=Board(ledger, progress, obstacle=lambda: conditions.against(*TO_OFFER)),
                intake=intake,
                uploads=uploads,
                estimates=Estimates(bases, workers, access, settings.estimate, quick),
                rewards=RewardTrials(workers, quick),
                folders=folders,
                store=store,
                conditions=conditions,
                streams=streams,
                rates=rates_at(settings.api.limits_url, settings.api.requests_per_minute),
                quotas=Quotas(settings.api.max_running_tasks_per_customer, settings.api.max_streams_per_customer),
                notes=(f"Workers run without a sandbox: {confined.why_not}",) if confined.why_not else (),
            ),
            view,
            progress,
            workers,
        ),
        settings=settings,
        ledger=ledger,
        conditions=conditions,
        confinement=confined,
        streams=streams,
        cluster=cluster,
    )


def _devices(settings: ValidatorSettings, workers: Executor, folders: Folders) -> Devices:
    """What is measured on: this machine's, or those of a cluster's nodes."""
    if isinstance(workers, RayExecutor):
        return devices_of_nodes(settings.measure, workers, folders.workers / "nodes")
    visible = device_environment().get("CUDA_VISIBLE_DEVICES")
    return devices_of(settings.measure, workers, folders.workers / "devices", visible=visible)


def _local_workers(settings: ValidatorSettings, folders: Folders, confined: Confinement) -> Executor:
    """Workers of this machine."""
    fresh = ProcessExecutor(environment=device_environment(), sandboxed=confined.sandboxed)
    return WarmExecutor(
        fresh, folders.workers, sandboxed=confined.sandboxed, idle_seconds=settings.measure.keep_seconds
    )


def _cluster(settings: ValidatorSettings, confined: Confinement) -> RayExecutor:
    """Workers on the nodes of a cluster. Raises SetupError for an address that no node can call."""
    ray = settings.ray
    if ray.origin is None and ray.host in ("0.0.0.0", "::"):  # noqa: S104 (refused, not bound)
        raise SetupError(
            f"{ray.host} is not an address that nodes can call",
            fix="Say `origin` in the section [ray], as nodes reach it",
        )
    return RayExecutor(
        ray.address,
        environment=ray_environment(),
        host=ray.host,
        port=ray.port,
        origin=ray.origin,
        sandboxed=confined.sandboxed,
        patience_seconds=ray.patience_seconds,
    )


def _stages(
    settings: ValidatorSettings,
    ledger: Ledger,
    gateway: SdkGateway,
    view: ChainView,
    client: AxonClient,
    clock: SystemClock,
    bases: BaseModels,
    store: ContentStore,
    folders: Folders,
    access: Access,
    workers: Executor,
    devices: Devices,
) -> Mapping[TaskState, Stage]:
    """The stage that takes tasks out of each state."""
    reading = settings.reading
    turns = Turns(FetchPlaces(reading.fetches_at_once), asyncio.Semaphore(reading.tasks_at_once))
    return {
        TaskState.DRAFT: PrepareStage(
            ledger, bases, store, folders, workers, access, settings.synthesis.endpoint(), reading, turns
        ),
        TaskState.OPEN: OfferStage(ledger, gateway, view, client, clock, settings.offer, settings.collect),
        TaskState.ASSIGNED: CollectStage(ledger, gateway, view, client, bases, store, folders, settings.collect),
        TaskState.COLLECTED: MeasureStage(ledger, gateway, bases, store, workers, devices, folders, settings.measure),
        TaskState.MEASURED: ScoreStage(ledger, gateway, clock),
    }


def _versions(settings: ValidatorSettings) -> dict[str, str]:
    """What this validator measures with, for its record."""
    gpu = torch_may_use_gpu(device_environment().get("CUDA_VISIBLE_DEVICES"))
    here = "gpu" if gpu else "cpu"
    return versions(accelerator="cluster" if settings.executor == "ray" else here, threads=settings.measure.threads)


def _customers_app(
    settings: ValidatorSettings, api: Dependencies, view: ChainView, progress: ProgressBoard, workers: Executor
) -> FastAPI:
    """The API that customers use, and its pages."""
    app = api_app(api, settings.api)
    if settings.pages.serve:
        sessions = Sessions(SystemClock())
        pages = Pages(site(), api, sessions, view, progress, workers, settings.pages)
        add_pages(app, pages)
    return app


def _axon_app(
    settings: ValidatorSettings, keys: WalletKeys, view: ChainView, ledger: Ledger, store: ContentStore
) -> FastAPI:
    """The axon that gives train rows to registered hotkeys, and their results to miners."""
    limits = ServerLimits(requests_per_minute=settings.axon.requests_per_minute)
    nonces = nonces_at(settings.axon.nonces_url)
    app = signed_app(keypair=keys.hotkey, policy=MetagraphPolicy(view.metagraph), nonces=nonces, limits=limits)
    app.add_middleware(cast(Any, CountedRequests), server="axon")
    add_data_route(app, ledger=ledger, store=store)
    add_outcome_route(app, ledger=ledger)
    add_reach_route(app, allow_private=Network.parse(settings.chain.network).is_local)
    return app
