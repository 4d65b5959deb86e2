"""A field that is raced: measured in blocks of rows, between which those stop of whom no prize can come to depend on the rest.

The rule is gradients/scoring/racing.py's, and depends on the rows alone: what a validator that died has left in files is taken, and the
race goes on as it would have. The base runs in the same blocks, all of them, before anybody else.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from gradients.domain.evaluation import Fingerprint, Measurement
from gradients.domain.failure import Failure
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import Hotkey, Task
from gradients.log import get_logger
from gradients.scoring.row_order import row_order
from gradients.scoring.rules import Rules, rules_at
from gradients.tasks.jobs.measuring import Entrant, EntrantResult
from gradients.tasks.registry import task_type
from validator.measuring.entrants import Entrants
from validator.measuring.sharing import Measuring
from validator.pay.contests import contest_of

log = get_logger("race")


@dataclass(frozen=True, slots=True)
class _OnBlocks(Entrants):
    """Entrants on some rows: what is measured is kept here, and failures go where they always go."""

    asked: tuple[Entrant, ...] = ()
    rows: int = 0
    name: str = ""
    found: dict[str, Measurement] = field(default_factory=dict)
    out: set[str] = field(default_factory=set)

    @property
    def results(self) -> Path:
        return self.folders.results(self.claim.task.id) / self.name

    def missing(self) -> list[Entrant]:
        return self.record([each for each in self.asked if each.id not in self.found and each.id not in self.out])

    def measured(self, measurement: Measurement) -> None:
        self.found[measurement.entrant] = measurement

    def failed(self, entrant: Entrant, failure: Failure) -> None:
        self.out.add(entrant.id)
        Entrants.failed(self, entrant, failure)

    def _left(self, entrant: Entrant) -> EntrantResult:
        left = Entrants._left(self, entrant)
        whole = left.value is None or len(left.per_row) == self.rows
        return left if whole else EntrantResult(entrant=entrant.id)


@dataclass
class _Runner:
    """What is known of one entrant."""

    entrant: Entrant
    blocks: int = 0
    values: dict[int, float] = field(default_factory=dict)  # by the row's place in the file
    fingerprint: Fingerprint | None = None

    def take(self, places: Sequence[int], measured: Measurement) -> None:
        """Add one more block."""
        self.blocks += 1
        self.values |= zip(places, measured.per_row, strict=True)
        self.fingerprint = self.fingerprint or measured.fingerprint


@dataclass(frozen=True, slots=True)
class Race:
    """One task's race."""

    task: Task
    seed: int  # of the rows' order
    entrants: Entrants
    rules: Rules
    looks: tuple[int, ...]  # how many rows are known after each block
    blocks: tuple[tuple[int, ...], ...]  # places of rows in the file

    @classmethod
    def of(cls, task: Task, seed: int, entrants: Entrants) -> Self | None:
        """The race of a task; None for one whose type is measured in one piece, or that has too few rows to stop anybody."""
        rules, rows = rules_at(task.blocks.started_at_block), task.data.held_out_rows
        looks = rules.looks(rows)
        if len(looks) < 2 or not task_type(task.request.type).by_blocks:
            return None
        order = row_order(seed, rows).tolist()
        blocks = (tuple(sorted(order[begin:end])) for begin, end in itertools.pairwise((0, *looks)))
        return cls(task, seed, entrants, rules, looks, tuple(blocks))

    async def run(self, measuring: Measuring, missing: Sequence[Entrant]) -> None:
        """Measure those who are missing, each on as many rows as it needs. Raises JobFailed when the base cannot be measured."""
        done = await asyncio.to_thread(self.entrants.ledger.submissions.measurements, self.task.id)
        if BASE_ENTRANT not in done:
            base = _Runner(Entrant(id=BASE_ENTRANT))
            found = await self._measure(measuring, [base], self.blocks, name="rows-base")
            base.take([place for block in self.blocks for place in block], found[BASE_ENTRANT])
            await self._record(base)
        running = [_Runner(entrant) for entrant in missing if entrant.id != BASE_ENTRANT]
        while behind := await self._behind(running):
            number = min(runner.blocks for runner in behind)
            some = [runner for runner in behind if runner.blocks == number]
            found = await self._measure(measuring, some, self.blocks[number : number + 1], name=f"rows-{number}")
            for runner in some:
                if runner.entrant.id in found:
                    runner.take(self.blocks[number], found[runner.entrant.id])
                else:  # it has failed, and the ledger knows
                    running.remove(runner)
            log.info("raced", task=self.task.id, rows=self.looks[number], of=self.looks[-1], running=len(some))
        for runner in running:
            await self._record(runner)

    async def _behind(self, running: Sequence[_Runner]) -> list[_Runner]:
        """Those who need more rows than they have."""
        known = {runner.entrant.id: self._measurement(runner) for runner in running if runner.blocks}
        needed = await asyncio.to_thread(self._needed, known) if known else {}
        return [
            runner for runner in running if len(runner.values) < needed.get(Hotkey(runner.entrant.id), self.looks[0])
        ]

    def _needed(self, known: Mapping[str, Measurement]) -> Mapping[Hotkey, int]:
        ledger = self.entrants.ledger
        measured = ledger.submissions.measurements(self.task.id)
        contest = contest_of(
            self.task,
            ledger.submissions.of_task(self.task.id),
            {**measured, **known},
            seed=self.seed,
            earlier=ledger.placings.winners(self.task.data.base_digest, before_block=self.task.blocks.started_at_block),
        )
        return self.rules.rows_needed(contest)

    async def _measure(
        self, measuring: Measuring, runners: Sequence[_Runner], blocks: Sequence[Sequence[int]], *, name: str
    ) -> Mapping[str, Measurement]:
        """What runners have on these blocks; who failed is not in it."""
        own = self.entrants
        asked = tuple(runner.entrant for runner in runners)
        some = _OnBlocks(
            own.ledger, own.folders, own.claim, own.metric, asked=asked, rows=sum(map(len, blocks)), name=name
        )
        if waiting := await asyncio.to_thread(some.missing):
            first = all(not runner.blocks for runner in runners)
            evaluation = measuring.evaluation.on_blocks(blocks, some.results, sketch=first)
            await replace(measuring, evaluation=evaluation).run(some, waiting)
        return some.found

    async def _record(self, runner: _Runner) -> None:
        await asyncio.to_thread(self.entrants.measured, self._measurement(runner))

    def _measurement(self, runner: _Runner) -> Measurement:
        values = tuple(runner.values[place] for place in sorted(runner.values))
        return Measurement(
            entrant=runner.entrant.id,
            metric=self.entrants.metric,
            value=statistics.fmean(values),
            stderr=statistics.stdev(values) / math.sqrt(len(values)),
            per_row=values,
            fingerprint=runner.fingerprint,
            rows_of=None if len(values) == self.looks[-1] else self.looks[-1],
        )
