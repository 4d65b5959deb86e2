"""What a miner answers on its axon: offers, starts, how far it is, and after the deadline the submission and its files."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from fastapi import FastAPI, Request, Response

from gradients.axon.auth import Caller
from gradients.axon.messages import AttemptStatus, Offer, OfferAnswer, ProofStepMessage, Reveal, Start, StartAnswer
from gradients.axon.server import file_response, requires_caller
from gradients.chain.gateway import ChainGateway
from gradients.chain.view import ChainView
from gradients.clock import Clock
from gradients.domain.commitment import prove
from gradients.domain.json import JsonObject
from gradients.errors import GradientsError, PeerRefused, TaskInvalid
from gradients.files.disk import FREE_BYTES_KEPT
from gradients.log import get_logger
from gradients.repo.manifest import Manifest, parse_manifest
from gradients.sandbox.bubblewrap import is_installed
from gradients.tasks.footprint import like_others
from gradients.tasks.jobs.training import TrainProgress
from gradients.tasks.picture_footprint import Size, size_in
from gradients.tasks.registry import missing_packages
from gradients.web.curves import Curve
from miner.bases import KnownBases
from miner.choose import Situation, against_start, choose
from miner.fitting import NOTHING, Known, fitted_plan
from miner.journal import REPO, Journal, Record, openings
from miner.memory import Memory
from miner.metrics import OFFERS
from miner.plan import Recipe
from miner.settings import MinerSettings

NARROW_BYTES = 2  # of a weight, as it is stored at the least
ON_ITS_WAY = frozenset({"being_fetched", "fetch_busy"})  # by this process, or by another one with the same cache
MOST_DECLINED = 1000  # offers whose answer is remembered, for the log
MOST_TOLD = 200  # characters of a problem
_PATH = re.compile(r"(?<![\w:/])(~|\.{1,2})?(/[^\s/:;,)'\"]+){2,}/?")  # not org/name, and no URL

log = get_logger("endpoints")


@dataclass
class Endpoints:
    """The routes' behaviour. `begin` is called with the id of each task that was accepted."""

    journal: Journal
    gateway: ChainGateway
    view: ChainView
    bases: KnownBases
    settings: MinerSettings
    recipe: Recipe
    memory: Memory
    clock: Clock
    begin: Callable[[str], None]
    obstacle: Callable[[], str] = str  # what stands against training at all at the moment; empty when nothing does
    progress: dict[str, TrainProgress] = field(default_factory=dict)
    curves: defaultdict[str, Curve] = field(default_factory=lambda: defaultdict(Curve))
    declined: dict[str, str] = field(default_factory=dict)  # task -> why, of the last offers that were not taken
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)  # so that two starts don't take one place

    def tell(self, task_id: str, progress: JsonObject) -> None:
        """Remember how far a training is."""
        said = TrainProgress.model_validate(progress)
        self.progress[task_id] = said
        self.curves[task_id].add(said.step, said.loss)

    async def offer(self, offer: Offer, caller: Caller) -> OfferAnswer:
        """Whether this miner would train the task. The operator hears of a no once: validators ask again and again."""
        answer = await self._answered(offer, caller, NOTHING)
        OFFERS.labels("accepted" if answer.accepted else "declined").inc()
        if answer.accepted:
            self.declined.pop(offer.task_id, None)
        elif self.declined.get(offer.task_id) != answer.reason:
            self.declined[offer.task_id] = answer.reason
            if len(self.declined) > MOST_DECLINED:
                del self.declined[next(iter(self.declined))]
            log.info("offer_declined", task=offer.task_id, base=offer.base, hours=offer.hours, reason=answer.reason)
        return answer

    async def _answered(self, offer: Offer, caller: Caller, known: Known) -> OfferAnswer:
        """Yes or no. A base is fetched only for a task that is taken if the base is what the offer says."""
        if obstacle := self.obstacle():
            return OfferAnswer(accepted=False, reason=_told(obstacle))
        announced = self._situation(offer, offer.base_digest, like_others(offer.base_parameters), known)
        answer = choose(offer, announced, self.settings, recipe=self.recipe.name)
        if not answer.accepted:
            return answer
        try:
            base = await self.bases.find(
                offer.base,
                parameters=offer.base_parameters,
                digest=offer.base_digest,
                validator=caller.hotkey,
            )
        except GradientsError as error:
            situation = replace(
                announced, base_digest=None, base_problem=_told(str(error)), fetching=error.code in ON_ITS_WAY
            )
        else:
            shape = await asyncio.to_thread(size_in, base.folder, base.parameters)
            situation = self._situation(offer, base.digest, shape, known)
        return choose(offer, situation, self.settings, recipe=self.recipe.name)

    async def start(self, start: Start, caller: Caller) -> StartAnswer:
        """Begin, unless the task was begun already: the same start twice is answered twice and begun once."""
        async with self.starting:
            known = self.journal.find(start.offer.task_id)
            if known is not None:
                same = (known.start, known.validator) == (start, caller.hotkey)
                return StartAnswer(accepted=same, reason="begun already" + ("" if same else " with other terms"))
            try:
                answer = await self._answered(start.offer, caller, Known(start.parameters))
            except TaskInvalid as error:  # parameters that its type does not have
                return StartAnswer(accepted=False, reason=_told(str(error)))
            reason = answer.reason
            if answer.accepted:
                block_seconds = await self.gateway.block_seconds()
                against = against_start(start, self.settings, block=self.view.block, block_seconds=block_seconds)
                reason = against[:500]
            if not reason:
                salt, now = secrets.token_hex(32), self.clock.now()
                record = Record(start=start, validator=caller.hotkey, accepted_at=now, salt=salt)
                await asyncio.to_thread(self.journal.write, record)
                deadline = start.deadline_block
                log.info("task_begun", task=record.task_id, validator=caller.hotkey, deadline_block=deadline)
                self.begin(record.task_id)
            return StartAnswer(accepted=not reason, reason=reason)

    def status(self, task_id: str) -> AttemptStatus:
        """How far the task is."""
        record = self._record(task_id)
        last = self.progress.get(task_id)
        phase: str = {"training": last.phase if last else "queued", "trained": "saving"}.get(record.phase, record.phase)
        return AttemptStatus.model_validate(
            {
                "task_id": task_id,
                "phase": phase,
                "recipe": self.recipe.name,
                "fraction": 1.0 if record.manifest else last.fraction if last else 0.0,
                "step": last.step if last else 0,
                "loss": last.loss if last else None,
                "problem": _told(record.failure or ""),
            }
        )

    def reveal(self, task_id: str) -> Reveal:
        """The manifest and the proof that it was committed. Raises PeerRefused before the deadline has passed."""
        record, text = self._open_submission(task_id)
        held = openings([record], netuid=self.gateway.netuid, hotkey=self.gateway.hotkey, block=0)
        proof = prove([bytes.fromhex(leaf) for leaf in record.leaves], held[task_id].leaf())
        steps = tuple(ProofStepMessage(height=step.height, sibling=step.sibling) for step in proof)
        return Reveal(task_id=task_id, manifest=text, salt=record.salt, proof=steps, start=record.start)

    def file(self, task_id: str, name: str, request: Request) -> Response:
        """One of the submission's files. Raises PeerRefused before the deadline, and for a name that is not in the manifest."""
        _, text = self._open_submission(task_id)
        manifest: Manifest = parse_manifest(text)
        if name not in manifest.files:
            raise PeerRefused(f"The submission has no file '{name[:96]}'", code="not_found")
        return file_response(self.journal.folder(task_id) / REPO / name, request, sha256=manifest.files[name].sha256)

    def _open_submission(self, task_id: str) -> tuple[Record, str]:
        """The record and its manifest, once everybody's commitment has been made."""
        record = self._record(task_id)
        if self.view.block <= record.start.deadline_block:
            raise PeerRefused(f"Sealed until block {record.start.deadline_block} has passed", code="sealed")
        if record.manifest is None or record.phase != "committed":
            raise PeerRefused(_told(record.failure or "There is no submission"), code="no_submission")
        return record, record.manifest

    def _record(self, task_id: str) -> Record:
        record = self.journal.find(task_id)
        if record is None:
            raise PeerRefused(f"Task {task_id[:64]} was never accepted here", code="not_found")
        return record

    def _situation(self, offer: Offer, base_digest: str, shape: Size, known: Known) -> Situation:
        running = sum(
            record.phase in ("training", "trained") and self.view.block <= record.start.deadline_block
            for record in self.journal.all()
        )
        memory = self.memory.share(self.settings.concurrent_tasks)
        fitted = fitted_plan(self.recipe, kind=offer.type, shape=shape, memory=memory, known=known)
        return Situation(
            running,
            base_digest,
            needed_bytes=fitted.needed_bytes,
            memory_bytes=fitted.there_bytes,
            needed_disk_bytes=FREE_BYTES_KEPT
            + (NARROW_BYTES * shape.parameters if fitted.plan.method == "full" else 0),
            free_disk_bytes=self.journal.free_bytes(),
            has_sandbox=is_installed(),
            missing_packages=missing_packages(offer.type),
        )


def _told(problem: str) -> str:
    """What others may hear of a problem: its first line, without paths of this machine. The rest is for its operator."""
    return _PATH.sub("…", next(iter(problem.splitlines()), ""))[:MOST_TOLD]


def add_routes(app: FastAPI, endpoints: Endpoints) -> None:
    """The miner's routes on a signed application."""

    @app.post("/v1/offers")
    async def offer(message: Offer, caller: Caller = requires_caller) -> OfferAnswer:
        return await endpoints.offer(message, caller)

    @app.post("/v1/tasks")
    async def start(message: Start, caller: Caller = requires_caller) -> StartAnswer:
        return await endpoints.start(message, caller)

    @app.get("/v1/tasks/{task_id}")
    async def status(task_id: str, caller: Caller = requires_caller) -> AttemptStatus:
        return endpoints.status(task_id)

    @app.get("/v1/tasks/{task_id}/submission")
    async def reveal(task_id: str, caller: Caller = requires_caller) -> Reveal:
        return endpoints.reveal(task_id)

    @app.get("/v1/tasks/{task_id}/files/{name}")
    async def file(task_id: str, name: str, request: Request, caller: Caller = requires_caller) -> Response:
        return endpoints.file(task_id, name, request)
