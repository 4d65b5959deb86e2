"""Synthetic tasks: what the validator asks for itself when no customer does, so that miners always have something to show.

Time is cut into slots, and each slot has at most one task; that it has had one is written in the transaction that creates the task, so
neither a restart nor a second process posts another. What comes next is decided by a pure function from what the schedule has posted
before: types, sizes and hours each keep to their mix, and which of several that lag behind comes first is drawn. To miners a synthetic
task looks like any other: its id, its moment within the slot and its deadlines say nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from gradients.clock import Clock
from gradients.datasets.sources import parse_source
from gradients.domain.json import Json
from gradients.domain.task import Task, TaskRequest
from gradients.errors import CustomerError, LedgerConflict, OutsideError
from gradients.log import get_logger
from gradients.scoring.contest import SCHEDULED  # `gradients validator key schedule` makes a key that sees these tasks
from gradients.tasks.mix import draw
from gradients.tasks.registry import declared_shares, task_type
from validator.ledger import Ledger
from validator.ledger.slots import take_slot
from validator.loops import run_forever
from validator.settings import PooledDataset, PooledModel, ScheduleSettings
from validator.specs.intake import Intake

REMEMBERED_TASKS = 200  # over which the mix holds
LATEST_SHARE = 0.5  # of a slot, by which its task is posted
LOOK_SECONDS = 30.0

log = get_logger("schedule")


def slot_at(now: float, *, every_seconds: float) -> int:
    """The number of the slot that `now` lies in, counted from the Unix epoch."""
    return int(now // every_seconds)


def due_at(slot: int, *, every_seconds: float, seed: int) -> float:
    """The moment of a slot's task: somewhere in its first half, so that a round hour says nothing about whose task it is."""
    return (slot + LATEST_SHARE * random.Random(f"{seed}/{slot}/moment").random()) * every_seconds


def next_spec(
    settings: ScheduleSettings, past: Sequence[TaskRequest], *, slot: int, seed: int
) -> dict[str, Json] | None:
    """What to ask for in a slot, after what was asked for in the past, or None when the pool has nothing for any type of the mix."""
    rng = random.Random(f"{seed}/{slot}")
    mix = {t.type: t.share for t in settings.types} or declared_shares()
    types = {name: share for name, share in mix.items() if _datasets(settings, name) and _models(settings, name)}
    if not any(types.values()):
        return None
    kind = draw(types, Counter(request.type for request in past), rng)
    model = _draw_model(settings, _models(settings, kind), past, rng)
    datasets, used = _datasets(settings, kind), [request.dataset for request in past]
    times = {i: used.count(parse_source(d.dataset).model_dump(mode="json")) for i, d in enumerate(datasets)}
    dataset = datasets[draw(dict.fromkeys(times, 1.0), times, rng)]  # whichever was taken less
    hours = draw({h.hours: h.share for h in settings.hours}, Counter(request.hours for request in past), rng)
    return {
        "type": kind,
        "base": model.base,
        "dataset": dataset.dataset,
        "parameters": dataset.parameters,
        "hours": hours,
    }


def _draw_model(
    settings: ScheduleSettings, models: Sequence[PooledModel], past: Sequence[TaskRequest], rng: random.Random
) -> PooledModel:
    """A model of the size that lags behind; among those of a size, whichever was taken less."""
    ordered: Sequence[float] = sorted(size.up_to_billions for size in settings.sizes)
    largest = max(ordered, default=0.0)  # what is larger than all belongs to it
    size_of = {m.base: next((size for size in ordered if m.billions <= size), largest) for m in settings.models}
    shares = {size.up_to_billions: size.share for size in settings.sizes}
    there = {size_of[model.base] for model in models}
    sizes = {size: share for size, share in shares.items() if size in there}
    if not any(sizes.values()):
        sizes = dict.fromkeys(there, 1.0)
    drawn = draw(sizes, Counter(size_of[r.base] for r in past if r.base in size_of), rng)
    of_size = {model.base: model for model in models if size_of[model.base] == drawn}
    return of_size[draw(dict.fromkeys(of_size, 1.0), Counter(request.base for request in past), rng)]


def _datasets(settings: ScheduleSettings, name: str) -> list[PooledDataset]:
    return [dataset for dataset in settings.datasets if dataset.type == name]


def _models(settings: ScheduleSettings, name: str) -> list[PooledModel]:
    """The models for a type: those that name it, and of those that name none the ones of the family that it fine-tunes."""
    family = task_type(name).base_family
    return [model for model in settings.models if (name in model.types if model.types else model.family == family)]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Posts a task in every slot in which the miners would otherwise have little to do."""

    ledger: Ledger
    intake: Intake
    clock: Clock
    settings: ScheduleSettings
    seed: int  # secret, so that nobody foresees what comes next
    given_up: set[int] = field(
        default_factory=set
    )  # the last slot that could not have its task, so that this is said once

    async def run(self) -> None:
        """Look whether something is due, for ever."""

        async def look() -> None:
            await asyncio.to_thread(self.post_if_due)
            await self.clock.sleep(LOOK_SECONDS)

        await run_forever(look, name="schedule", rest_seconds=LOOK_SECONDS)

    def post_if_due(self) -> Task | None:
        """The task that was posted now, if one was. What is wrong with the pool or a network costs the slot; other errors are raised."""
        slot = self._due_slot()
        if slot is None:
            return None
        past = [task.request for task in self.ledger.tasks.list(customer=SCHEDULED, limit=REMEMBERED_TASKS)]
        spec = next_spec(self.settings, past, slot=slot, seed=self.seed)
        if spec is None:
            self._give_up(slot, "the pool has no data set and model for any type of the mix")
            return None
        try:
            return self.intake.submit(
                {**spec, "private": False},
                customer=SCHEDULED,
                also=lambda task_id: lambda session: take_slot(session, slot, task_id),
            )
        except (CustomerError, OutsideError, LedgerConflict) as error:
            self._give_up(slot, str(error))
            return None

    def _due_slot(self) -> int | None:
        """The slot that waits for its task, unless enough is going on."""
        if self.settings.every_hours is None:
            return None
        every_seconds = 3600.0 * self.settings.every_hours
        now = self.clock.now()
        slot = slot_at(now, every_seconds=every_seconds)
        if slot in self.given_up or now < due_at(slot, every_seconds=every_seconds, seed=self.seed):
            return None
        busy = self.ledger.slots.taken(slot) or self.ledger.tasks.running() >= self.settings.at_once
        return None if busy else slot

    def _give_up(self, slot: int, problem: str) -> None:
        self.given_up.clear()
        self.given_up.add(slot)
        log.warning("slot_without_task", slot=slot, problem=problem)
