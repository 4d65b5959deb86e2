"""From points of many tasks to each miner's share of the weight (paper, sections 4.3 and 4.4)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gradients.domain.task import Hotkey
from gradients.scoring.rules import Rules

SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class ScoredPoints:
    """One miner's points in one task."""

    hotkey: Hotkey
    task_type: str
    points: float
    adjusted_points: float
    scored_at: float  # seconds since the Unix epoch


def curve(x: float, rules: Rules) -> float:
    """S(x) = 0.7·sigmoid(9·(x - 0.5))^0.75 + 0.05·x for x in 0..1: S(1) = 0.744, S(0.5) = 0.441, S(0) = 0.024."""
    sigmoid = 1.0 / (1.0 + math.exp(-rules.sigmoid_steepness * (x - rules.sigmoid_centre)))
    return rules.sigmoid_share * math.pow(sigmoid, rules.sigmoid_power) + rules.linear_share * x


def shares(
    records: Sequence[ScoredPoints], *, now: float, rules: Rules, declared_shares: Mapping[str, float]
) -> dict[Hotkey, float]:
    """Each miner's share of the weight; they sum to 1, or there are none when nobody has earned anything.

    Every task type that was active spreads its share over the windows, every window over its miners. A miner whose points average below
    zero in a window gets nothing from it; the paper leaves this case open.

    Args:
        declared_shares: of task types that the rules do not name; a type that neither names pays nothing.
    """
    totals: dict[Hotkey, float] = defaultdict(float)
    active = {record.task_type for record in records}
    paid = {name: rules.type_shares.get(name, declared_shares.get(name, 0.0)) for name in active}
    for task_type, type_share in paid.items():
        if type_share <= 0:
            continue
        of_type = [record for record in records if record.task_type == task_type]
        for days, window_share in rules.windows:
            window = [record for record in of_type if now - record.scored_at <= days * SECONDS_PER_DAY]
            for hotkey, share in _window_shares(window, rules).items():
                totals[hotkey] += type_share * window_share * share
    whole = math.fsum(totals.values())
    return {hotkey: total / whole for hotkey, total in sorted(totals.items())} if whole > 0 else {}


def _window_shares(records: Sequence[ScoredPoints], rules: Rules) -> Mapping[Hotkey, float]:
    """Shares within one window, summing to 1; empty when nobody scored above zero."""
    by_miner: dict[Hotkey, list[ScoredPoints]] = defaultdict(list)
    for record in records:
        by_miner[record.hotkey].append(record)
    means = {hotkey: math.fsum(r.points for r in own) / len(own) for hotkey, own in by_miner.items()}
    scores = {
        hotkey: math.fsum(r.adjusted_points for r in by_miner[hotkey]) * mean
        for hotkey, mean in means.items()
        if mean >= 0
    }
    best = max(scores.values(), default=0.0)
    if best <= 0:
        return {}
    curved = {hotkey: curve(max(score, 0.0) / best, rules) for hotkey, score in scores.items()}
    whole = math.fsum(curved.values())
    return {hotkey: value / whole for hotkey, value in curved.items()}
