"""A market under one version of the rules, day after day."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradients.scoring.chance import Chance
from gradients.scoring.contest import SCHEDULED, Result
from gradients.scoring.rules import Rules, shares_of
from gradients.simulator.market import Market
from gradients.simulator.tasks import Asked, Asking, outcome

TASKS_PER_DAY = 20
BLOCKS_PER_DAY = 7_200
SECONDS_PER_DAY = 86_400.0
CLOCK_WINDOW_DAYS = 7  # of rules whose windows are of the clock
DRAW_DAYS = (
    4  # the draw is shown so many and not the whole window: a rating has then lost all but a thousandth of its memory
)
RESAMPLES = (
    250  # of version 2's 1,000: the noise that this adds to a prize is a hundredth of its variance from task to task
)
POOLS = {1: 15, 2: 32}  # the validator's default under each version


@dataclass(frozen=True, slots=True)
class Setup:
    """What is played."""

    market: Market
    rules: Rules
    days: int = 42
    pool: int = 32


def weights_of(setup: Setup, seed: int) -> np.ndarray:
    """[days, miners]: what one validator's tasks make each miner's share at the end of each day, in the order of the market."""
    asking, results = Asking(seed), list[Result]()
    hotkeys = [miner.hotkey for miner in setup.market.miners]
    weights = np.zeros((setup.days, len(hotkeys)))
    for day in range(setup.days):
        for asked in _tasks_of_day(asking, setup.market, day):
            results.extend(_played(asked, setup, results, day))
        now = (day + 1) * SECONDS_PER_DAY
        recent = _recent(results, setup.rules.window_blocks or CLOCK_WINDOW_DAYS * BLOCKS_PER_DAY)
        shares = shares_of(setup.rules.account(recent, now=now, declared_shares={}))
        weights[day] = [shares.get(hotkey, 0.0) for hotkey in hotkeys]
    return weights


def quick(rules: Rules) -> Rules:
    """The same rules, with as many resamples as a simulation needs."""
    return replace(rules, resamples=RESAMPLES) if isinstance(rules, Chance) else rules


def _tasks_of_day(asking: Asking, market: Market, day: int) -> list[Asked]:
    """In the order of their deadlines, which lie evenly over the day; customers' come last."""

    def at(part: float) -> int:
        return int((day + part) * BLOCKS_PER_DAY)

    scheduled = [asking.scheduled(at((k + 0.5) / TASKS_PER_DAY)) for k in range(TASKS_PER_DAY)]
    return [*scheduled, *(asking.dealt(f"customer{i}", at(1.0)) for i in range(market.customers))]


def _played(asked: Asked, setup: Setup, results: Sequence[Result], day: int) -> list[Result]:
    """A task from its draw to its rows."""
    rules, own = setup.rules, asked.customer != SCHEDULED
    now = asked.deadline_block / BLOCKS_PER_DAY * SECONDS_PER_DAY
    there = [m.hotkey for m in setup.market.miners if m.first_day <= day and (m.ring if own else m.scheduled)]
    known = _recent(results, DRAW_DAYS * BLOCKS_PER_DAY)
    pool = rules.draw(there, results=known, now=now, size=setup.pool, seed=asked.seed)
    factor = rules.factor(parameters=asked.parameters, hours=asked.hours)
    return [
        Result(
            task_id=asked.task_id,
            task_type=asked.task_type,
            customer=asked.customer,
            hotkey=placing.hotkey,
            points=placing.points,
            adjusted_points=placing.adjusted_points,
            factor=factor,
            gain=placing.gain,
            copied=placing.copy_of is not None,
            fault=placing.fault,
            deadline_block=asked.deadline_block,
            scored_at=now,
            rules_version=rules.version,
        )
        for placing in rules.place(outcome(asked, setup.market, pool))
    ]


def _recent(results: Sequence[Result], window_blocks: int) -> Sequence[Result]:
    """The rows of a window before the newest deadline: `results` are in the order of deadlines."""
    if not results:
        return results
    since = results[-1].deadline_block - window_blocks
    return results[bisect_left(results, since, key=lambda result: result.deadline_block) :]
