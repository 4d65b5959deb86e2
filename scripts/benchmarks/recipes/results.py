"""From runs to comparisons: markets made of their members' runs, failures charged, arms paired by base, task and seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np

from scripts.benchmarks.recipes.arms import MARKETS, ORACLES, SEARCHED
from scripts.benchmarks.recipes.run import Done
from scripts.benchmarks.recipes.statistics import Comparison, Match, compare
from scripts.benchmarks.recipes.tasks import TASKS

Place = tuple[str, str, int]  # base, task, seed
Rows = Literal["selection", "test"]  # by which the best of a group is chosen
GROUPS: tuple[tuple[Mapping[str, tuple[str, ...]], Rows], ...] = ((MARKETS, "selection"), (ORACLES, "test"))


class Outcome(NamedTuple):
    """What an arm came to in one place."""

    test: tuple[float, ...]
    share: float  # of a unit of budget that was used, all members' together
    seconds: float
    failed: bool = False


Outcomes = Mapping[str, Mapping[Place, Outcome]]  # by arm


class Pairing(NamedTuple):
    """One arm against another."""

    arm: str
    against: str
    comparison: Comparison
    tokens: float  # our tokens over theirs, means

    def as_json(self) -> dict[str, str | int | float]:
        """For scripts."""
        found = self.comparison
        return {
            "arm": self.arm,
            "against": self.against,
            "wins": found.wins,
            "ties": found.ties,
            "runs": found.runs,
            "mean_gain": round(found.gain.mean, 3),
            "low": round(found.gain.low, 3),
            "high": round(found.gain.high, 3),
            "tokens_ratio": round(self.tokens, 3),
        }


OURS = ("planner", "planner-x4", *MARKETS, "full-tuned", "lora-tuned", "lora-plus")
AGAINST = ("autotrain", "autotrain-default", "trl", "community", "together", "autotrain-x4", "community-x4")
AMONG_OURS = (
    ("planner", "full-tuned"),
    ("planner", "lora-tuned"),
    ("planner", "lora-plus"),
    *product(("planner", f"planner-x{SEARCHED}"), ORACLES),
    (f"planner-x{SEARCHED}", f"best of {SEARCHED} settings"),
    ("planner-x4", "planner"),
    *((market, "planner") for market in MARKETS),
    (next(iter(MARKETS)), tuple(MARKETS)[-1]),
)


def outcomes_of(runs: Iterable[Done]) -> Outcomes:
    """By arm and place; who failed leaves the customer with the base."""
    by_place: dict[Place, dict[str, Done]] = defaultdict(dict)
    for done in runs:
        by_place[done.run.base_name, done.run.task, done.run.seed][done.run.arm] = done
    found: dict[str, dict[Place, Outcome]] = defaultdict(dict)
    for place, arms in by_place.items():
        base = arms.get("base")
        if base is None or base.failure:
            continue  # not measured yet
        for name, done in arms.items():
            found[name][place] = _outcome([done], base)
        for groups, rows in GROUPS:
            for group, members in groups.items():
                if all(member in arms for member in members):
                    found[group][place] = _outcome([arms[member] for member in members], base, by=rows)
    return found


def pairings(outcomes: Outcomes, *, family: str | None = None, among: bool = True) -> list[Pairing]:
    """All that can be compared, ours against theirs and some of ours among themselves."""
    pairs = [*product(OURS, AGAINST), *(AMONG_OURS if among else ())]
    found = []
    for arm, against in pairs:
        matches, tokens = _matches(outcomes, arm, against, family)
        if matches:
            found.append(Pairing(arm, against, compare(matches), tokens))
    return found


def by_family(outcomes: Outcomes) -> dict[str, list[Pairing]]:
    """The same for each family by itself."""
    families = dict.fromkeys(task.family for task in TASKS.values())
    return {family: found for family in families if (found := pairings(outcomes, family=family, among=False))}


def _matches(outcomes: Outcomes, arm: str, against: str, family: str | None) -> tuple[list[Match], float]:
    ours, theirs = outcomes.get(arm, {}), outcomes.get(against, {})
    places = sorted(place for place in ours.keys() & theirs.keys() if family in (None, TASKS[place[1]].family))
    matches = [
        Match(
            f"{place[0]} {place[1]}",
            place[2],
            np.array(ours[place].test),
            np.array(theirs[place].test),
            failed=ours[place].failed,
        )
        for place in places
    ]
    used = [sum(side[place].share for place in places) for side in (ours, theirs)]
    return matches, used[0] / used[1] if places and used[1] else float("nan")


def _outcome(members: Sequence[Done], base: Done, *, by: Rows = "selection") -> Outcome:
    """The best member's by these rows; all of them are charged."""
    share = sum(done.units / max(done.unit_budget, 1) for done in members)
    seconds = sum(done.seconds for done in members)
    there = [done for done in members if not done.failure]
    if not there:
        return Outcome(base.test, share, seconds, failed=True)
    best = min(there, key=lambda done: fmean(getattr(done, by))) if len(there) > 1 else there[0]
    return Outcome(best.test, share, seconds)
