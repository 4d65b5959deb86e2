"""Simulated tasks: what is asked for, and what every miner's model measures on the held-out rows.

A row's loss under a model is base·(1 - G·q) + residual: G is the task's best gain, q the model's part of it (its miner's skill and a run's
luck). Everything is drawn for all miners of a market whether they take part or not: two runs that differ in one thing differ by it alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradients.domain.failure import Failure
from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.contest import SCHEDULED, Contest, Entry
from gradients.simulator.market import Market, Miner
from gradients.tasks.mix import draw
from gradients.tasks.registry import declared_shares

ROWS = 100
STAND_FOR = 4  # so many rows each: spreads of rows are smaller by the root, means and their errors are the same
PARAMETERS = {1.5e9: 0.3, 3e9: 0.3, 8e9: 0.3, 3.2e10: 0.1}
HOURS = {0.75: 0.4, 1.5: 0.3, 3.0: 0.2, 6.0: 0.1}
LUCK = 0.05  # of a run, in skill
RESIDUAL = (
    0.045 / STAND_FOR**0.5
)  # of a model's rows, in parts of the base's loss: a paired standard error of 0.32 %, as measured on the demonstration
BASE_SPREAD = 0.2 / STAND_FOR**0.5  # of the base's rows
FORGOTTEN = 0.5  # what is left of a row's loss once it has been trained on
KINSHIP = 0.8  # correlation of the residuals of two check points of one run
FIRST_COMMIT, LAST_COMMIT, EARLY_COMMIT = 900, 1000, 400
MINERS_FAULT = Failure(Blame.MINER, "commitment_missing", "nothing was committed")
SILENCE = Failure(Blame.OUTSIDE, "not_started", "no answer in time")
OUR_FAULT = Failure(Blame.OPERATOR, "job_failed", "the worker died")


@dataclass(frozen=True, slots=True)
class Asked:
    """A task before anybody has worked on it."""

    task_id: str
    task_type: str
    customer: str
    parameters: int
    hours: float
    deadline_block: int
    seed: int  # of everything that happens in it


class Asking:
    """The schedule of one validator, and its customers."""

    def __init__(self, seed: int) -> None:
        self._luck = random.Random(seed)
        self._types: Counter[str] = Counter()
        self._mix = declared_shares()

    def scheduled(self, deadline_block: int) -> Asked:
        """The next task of the mix."""
        kind = draw(self._mix, self._types, self._luck)
        self._types[kind] += 1
        parameters = self._luck.choices(list(PARAMETERS), list(PARAMETERS.values()))[0]
        hours = self._luck.choices(list(HOURS), list(HOURS.values()))[0]
        return self._asked(kind, SCHEDULED, int(parameters), hours, deadline_block)

    def dealt(self, customer: str, deadline_block: int) -> Asked:
        """A customer's task for a ring of miners: of the rarest type, which pays most a task in version 1, cheap to train and long."""
        return self._asked(min(self._mix, key=lambda kind: self._mix[kind]), customer, int(1.5e9), 6.0, deadline_block)

    def _asked(self, kind: str, customer: str, parameters: int, hours: float, deadline_block: int) -> Asked:
        seed = self._luck.getrandbits(62)
        return Asked(f"{seed:016x}", kind, customer, parameters, hours, deadline_block, seed)


def outcome(asked: Asked, market: Market, pool: Sequence[Hotkey]) -> Contest:
    """What the pool's miners hand in, measured."""
    rng = np.random.default_rng(asked.seed)
    gain, loss = rng.uniform(0.05, 0.30), rng.uniform(1.2, 3.0)
    base = loss * rng.gamma(BASE_SPREAD**-2, BASE_SPREAD**2, ROWS)
    public = rng.random() < market.public_share
    count = len(market.miners)
    # A stream for each purpose: a market with one more miner at its end gives the others what they had.
    lucky, failing, commits = (np.random.default_rng((asked.seed, i)).random((count, 3)).T for i in (1, 2, 3))
    luck = np.sqrt(-2 * np.log1p(-lucky[0])) * np.cos(2 * np.pi * lucky[1])
    residuals = loss * RESIDUAL * np.random.default_rng((asked.seed, 4)).standard_normal((count, ROWS))
    hairs = loss * np.random.default_rng((asked.seed, 5)).standard_normal(ROWS)  # a copy's noise, turned for each

    skills = np.array([_skill(miner, asked) for miner in market.miners]) + LUCK * luck
    rows = base * (1 - gain * skills[:, None]) + residuals
    blocks = FIRST_COMMIT + ((LAST_COMMIT - FIRST_COMMIT) * commits[0]).astype(int)
    drawn, operator = set(pool), list[int]()
    for i, miner in enumerate(market.miners):
        if miner.commits_early:
            blocks[i] -= FIRST_COMMIT - EARLY_COMMIT
        if miner.memory and public:
            rows[i, : int(miner.memory * ROWS)] *= FORGOTTEN
        if miner.conduct in ("reuploads", "copies"):
            rows[i] = base + 1e-5 * np.roll(hairs, i)
        if miner.conduct in ("one_model", "one_run") and miner.hotkey in drawn:
            operator.append(i)
    for nth, i in enumerate(operator[1:], start=1):
        first = operator[0]
        rows[i] = rows[first] + 1e-6 * np.roll(hairs, i)
        if market.miners[i].conduct == "one_run":
            own = np.sqrt(1 - KINSHIP**2) * residuals[i]
            rows[i] = base * (1 - gain * (skills[first] - market.step * nth)) + KINSHIP * residuals[first] + own
    indices = {miner.hotkey: i for i, miner in enumerate(market.miners)}
    if market.leak:
        works = [i for i, m in enumerate(market.miners) if m.hotkey in drawn and m.conduct not in ("copies", "silent")]
        best = min(works, key=lambda i: float(rows[i].mean()))
        for i, miner in enumerate(market.miners):
            if miner.conduct == "copies":
                rows[i], blocks[i] = rows[best] + 1e-4 * np.roll(hairs, i), LAST_COMMIT + 1

    def entry(hotkey: Hotkey) -> Entry:
        i = indices[hotkey]
        miner = market.miners[i]
        failure = SILENCE if miner.conduct == "silent" else None
        failure = MINERS_FAULT if failing[0][i] < miner.own_failures else failure
        failure = OUR_FAULT if failing[1][i] < miner.our_failures else failure
        values = () if failure else tuple(rows[i].tolist())
        return Entry(hotkey, values, int(blocks[i]), int(1000 * commits[1][i]), failure)

    return Contest(
        entries=tuple(entry(hotkey) for hotkey in pool),
        base=tuple(base.tolist()),
        better="lower",
        base_parameters=asked.parameters,
        hours=asked.hours,
        seed=asked.seed,
    )


def _skill(miner: Miner, asked: Asked) -> float:
    """Whoever knows a customer's rows is beyond everybody who does not."""
    return 1.6 if miner.ring and asked.customer != SCHEDULED else miner.skill
