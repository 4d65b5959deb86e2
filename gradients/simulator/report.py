"""A market over several seeds, as one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradients.domain.json import Json
from gradients.scoring.rules import Rules
from gradients.simulator.consensus import agreement
from gradients.simulator.figures import Figures, figures, interval
from gradients.simulator.market import OPERATOR_ROOM, Market, Operator, market_of
from gradients.simulator.run import Setup, quick, weights_of

VALIDATORS_APART = 1_000  # between the seeds of one market's validators


@dataclass(frozen=True, slots=True)
class Plan:
    """What to simulate."""

    market: str
    rules: Rules
    seeds: int = 1
    days: int = 42
    pool: int = 32
    operator: Operator | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What came out: the object for scripts, and each seed's weights [days, miners] for plots."""

    said: dict[str, Json]
    market: Market
    weights: Sequence[np.ndarray]


def simulate(plan: Plan, *, told: Callable[[str], None] = lambda _: None) -> Report:
    """Play the market once for each seed. `told` hears of every run that has ended."""
    operator = plan.operator
    if operator is None and plan.market == "checkpoints":
        operator = Operator(4, different=True)
    market = market_of(plan.market, operator)
    setup = Setup(market, quick(plan.rules), plan.days, plan.pool)
    played = [_played(setup, seed, told) for seed in range(plan.seeds)]
    first = [weights[0] for weights in played]
    each = [figures(market, weights) for weights in first]
    said: dict[str, Json] = {
        "rules": plan.rules.version,
        "market": plan.market,
        "seeds": plan.seeds,
        "weeks": sum(one.weeks for one in each),
    }
    spread: dict[str, Json] = {}
    for name, values in _series(each).items():
        said[name], spread[name] = sum(values) / len(values), interval(values)
    groups = list(each[0].pay)
    said["pay"] = {group: sum(one.pay[group] for one in each) / len(each) for group in groups}
    spread["pay"] = {group: interval([one.pay[group] for one in each]) for group in groups}
    _add_trust(said, spread, market, played)
    arrivals = [one.newcomer_days for one in each if one.newcomer_days is not None]
    if arrivals:
        said["newcomer_days"] = {part: sum(days[part] for days in arrivals) / len(arrivals) for part in arrivals[0]}
        spread["newcomer_days"] = {part: interval([days[part] for days in arrivals]) for part in arrivals[0]}
    if operator is not None:
        alone = market_of(plan.market, replace(operator, hotkeys=1), room=max(OPERATOR_ROOM, operator.hotkeys))
        ones = [figures(alone, weights_of(replace(setup, market=alone), seed)) for seed in range(plan.seeds)]
        _add_ratio(said, spread, "gain", [one.pay["sybils"] for one in each], [one.pay["sybils"] for one in ones])
        said["sybils"] = operator.hotkeys
    if plan.market == "faults":
        without = replace(market, miners=tuple(replace(miner, our_failures=0.0) for miner in market.miners))
        unhurt = [figures(without, weights_of(replace(setup, market=without), seed)) for seed in range(plan.seeds)]
        _add_ratio(said, spread, "made_good", [one.pay["struck"] for one in each], [o.pay["struck"] for o in unhurt])
    said["intervals"] = spread
    return Report(said, market, first)


def _played(setup: Setup, seed: int, told: Callable[[str], None]) -> list[np.ndarray]:
    """Each validator's weights."""
    weights = []
    for validator in range(setup.market.validators):
        weights.append(weights_of(setup, seed + validator * VALIDATORS_APART))
        told(f"seed {seed + 1}, validator {validator + 1} of {setup.market.validators}")
    return weights


def _series(each: Sequence[Figures]) -> dict[str, list[float]]:
    return {
        "best_paid_most": [one.best_paid_most for one in each],
        "spearman": [one.spearman for one in each],
        "change_per_day": [one.change_per_day for one in each],
    }


def _add_trust(
    said: dict[str, Json], spread: dict[str, Json], market: Market, played: Sequence[list[np.ndarray]]
) -> None:
    """Of several validators in a market that has them; in others the seeds are the validators, and fewer than three say nothing."""
    if market.validators > 1:
        found = [agreement(np.stack(weights), copiers=market.weight_copiers) for weights in played]
        for name in ("trust", "copiers_trust", "copiers_dividends"):
            key, values = name.replace("trust", "validator_trust"), [getattr(one, name) for one in found]
            said[key], spread[key] = sum(values) / len(values), interval(values)
        return
    together = [weights[0] for weights in played]
    # The median of an even number lies above the middle: of six, every five.
    odd = [together] if len(together) % 2 else [[*together[:i], *together[i + 1 :]] for i in range(len(together))]
    trusts = [agreement(np.stack(some)).trust for some in odd if len(some) >= 3]
    said["validator_trust"] = sum(trusts) / len(trusts) if trusts else None


def _add_ratio(
    said: dict[str, Json], spread: dict[str, Json], name: str, above: Sequence[float], below: Sequence[float]
) -> None:
    """The ratio of two means, and its interval by leaving out one seed after the other (jackknife)."""
    said[name] = sum(above) / sum(below) if sum(below) > 0 else None
    if sum(below) <= 0:
        return
    count, whole = len(above), sum(above) / sum(below)
    if count == 1:
        spread[name] = [whole, whole]
        return
    left = [(sum(above) - a) / (sum(below) - b) for a, b in zip(above, below, strict=True)]
    spread[name] = interval([count * whole - (count - 1) * each for each in left])
