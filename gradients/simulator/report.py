"""A market over several seeds, as one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gradients.domain.json import Json
from gradients.scoring.rules import Rules
from gradients.simulator.consensus import agreement
from gradients.simulator.figures import figures, interval, ratio_interval
from gradients.simulator.market import OPERATOR_ROOM, OPERATORS, Market, Operator, market_of
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


@dataclass(frozen=True, slots=True)
class _Sums:
    """Means over seeds, and their intervals beside them."""

    means: dict[str, Json] = field(default_factory=dict)
    intervals: dict[str, Json] = field(default_factory=dict)

    def add(self, name: str, values: Sequence[float]) -> None:
        self.means[name], self.intervals[name] = sum(values) / len(values), interval(values)

    def add_parts(self, name: str, parts: Sequence[Mapping[str, float]]) -> None:
        """`parts`: one mapping for each seed, all of the same keys."""
        series = {key: [each[key] for each in parts] for key in parts[0]}
        self.means[name] = {key: sum(values) / len(values) for key, values in series.items()}
        self.intervals[name] = {key: interval(values) for key, values in series.items()}

    def add_ratio(self, name: str, above: Sequence[float], below: Sequence[float]) -> None:
        """None where nothing is below."""
        whole = sum(below) > 0
        self.means[name] = sum(above) / sum(below) if whole else None
        self.intervals[name] = ratio_interval(above, below) if whole else None


def simulate(plan: Plan, *, told: Callable[[str], None] = lambda _: None) -> Report:
    """Play the market once for each seed. `told` hears of every run that has ended."""
    operator = plan.operator or OPERATORS.get(plan.market)
    setup = Setup(market_of(plan.market, operator), quick(plan.rules), plan.days, plan.pool)
    played = [_played(setup, seed, told) for seed in range(plan.seeds)]
    each = [figures(setup.market, weights[0]) for weights in played]
    sums = _Sums()
    sums.add("best_paid_most", [one.best_paid_most for one in each])
    sums.add_parts("pay", [one.pay for one in each])
    sums.add("spearman", [one.spearman for one in each])
    sums.add("change_per_day", [one.change_per_day for one in each])
    _add_trust(sums, setup.market, played)
    if arrivals := [one.newcomer_days for one in each if one.newcomer_days is not None]:
        sums.add_parts("newcomer_days", arrivals)
    if operator is not None:
        room = max(OPERATOR_ROOM, operator.hotkeys)
        alone = market_of(plan.market, replace(operator, hotkeys=1), room=room)
        sums.add_ratio("gain", [one.pay["sybils"] for one in each], _pay_in(alone, "sybils", setup, plan.seeds))
    if plan.market == "faults":
        without = replace(setup.market, miners=tuple(replace(m, our_failures=0.0) for m in setup.market.miners))
        sums.add_ratio("made_good", [one.pay["struck"] for one in each], _pay_in(without, "struck", setup, plan.seeds))
    said: dict[str, Json] = {"rules": plan.rules.version, "market": plan.market, "seeds": plan.seeds, "days": plan.days}
    said |= {"sybils": operator.hotkeys} if operator else {}
    said |= {"weeks": sum(one.weeks for one in each), **sums.means, "intervals": sums.intervals}
    return Report(said, setup.market, [weights[0] for weights in played])


def _played(setup: Setup, seed: int, told: Callable[[str], None]) -> list[np.ndarray]:
    """Each validator's weights."""
    weights = []
    for validator in range(setup.market.validators):
        weights.append(weights_of(setup, seed + validator * VALIDATORS_APART))
        told(f"seed {seed + 1}, validator {validator + 1} of {setup.market.validators}")
    return weights


def _pay_in(market: Market, group: str, setup: Setup, seeds: int) -> list[float]:
    """What a group is paid in another market, seed by seed."""
    other = replace(setup, market=market)
    return [figures(market, weights_of(other, seed)).pay[group] for seed in range(seeds)]


def _add_trust(sums: _Sums, market: Market, played: Sequence[list[np.ndarray]]) -> None:
    """Of several validators in a market that has them; in others the seeds are the validators, and fewer than three say nothing."""
    if market.validators > 1:
        found = [agreement(np.stack(weights), copiers=market.weight_copiers) for weights in played]
        sums.add("validator_trust", [one.trust for one in found])
        sums.add_parts("weight_copier", [{"trust": one.copiers_trust, "dividends": one.copiers_pay} for one in found])
        return
    together = [weights[0] for weights in played]
    # The median of an even number lies above the middle: of six, every five.
    odd = [together] if len(together) % 2 else [[*together[:i], *together[i + 1 :]] for i in range(len(together))]
    trusts = [agreement(np.stack(some)).trust for some in odd if len(some) >= 3]
    sums.means["validator_trust"] = sum(trusts) / len(trusts) if trusts else None
