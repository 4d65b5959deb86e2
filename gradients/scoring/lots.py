"""Who gets a task under version 2 when more miners want it than it takes: most places by rating, the rest by lot, all by reliability."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.contest import Result


@dataclass(frozen=True, slots=True)
class DrawRules:
    """How a pool is drawn."""

    rated_share: float = 0.75  # of the places; the rest goes by lot
    memory: float = 0.85  # of a rating, with every further task
    reliable_memory: float = 0.97  # of what was delivered and what was not
    grace: float = 0.1  # chance of a rated place beyond reliability
    newcomer_lots: float = 3.0  # of whoever has no rating yet
    least_lots: float = 0.001


@dataclass(slots=True)
class Standing:
    """What a miner has shown in the tasks so far."""

    rating: float | None = None  # mean of gain / best gain, -1 to 1
    delivered: float = 1.0
    missed: float = 0.0

    @property
    def reliability(self) -> float:
        """Between 0 and 1."""
        return self.delivered / (self.delivered + self.missed)


def draw(
    candidates: Sequence[Hotkey], results: Sequence[Result], rules: DrawRules, *, size: int, seed: int
) -> list[Hotkey]:
    """At most `size` of the candidates, the rated ones first; nothing depends on the order of either argument, or on the alphabet."""
    records = standings(results, rules)

    def chance(hotkey: Hotkey, purpose: str) -> float:
        """Uniform over 0 to 1, for this draw and miner."""
        digest = hashlib.sha256(f"{seed}:{purpose}:{hotkey}".encode()).digest()
        return (int.from_bytes(digest[:8], "big") + 0.5) / 2.0**64

    def rank(hotkey: Hotkey) -> tuple[float, float]:
        return -(records[hotkey].rating or 0.0), chance(hotkey, "tie")

    def lots(hotkey: Hotkey) -> float:
        fresh = rules.newcomer_lots if records[hotkey].rating is None else 1.0
        return max(fresh * records[hotkey].reliability, rules.least_lots)

    unique = sorted(set(candidates))
    rated = sorted((hotkey for hotkey in unique if records[hotkey].rating is not None), key=rank)
    places = int(size * rules.rated_share)
    first = [h for h in rated[:places] if chance(h, "reliable") < records[h].reliability + rules.grace]
    # Efraimidis and Spirakis: the largest u^(1/w) are a weighted sample without replacement.
    rest = sorted(
        (hotkey for hotkey in unique if hotkey not in first), key=lambda h: -(chance(h, "lot") ** (1.0 / lots(h)))
    )
    return [*first, *rest[: size - len(first)]]


def standings(results: Sequence[Result], rules: DrawRules) -> dict[Hotkey, Standing]:
    """What every miner has shown, task after task. A copy shows nothing; a failure of the validator's isn't the miner's."""
    best: dict[str, float] = {}
    for result in results:
        if result.gain is not None and result.gain > best.get(result.task_id, 0.0):
            best[result.task_id] = result.gain
    records: dict[Hotkey, Standing] = defaultdict(Standing)
    kept, memory = rules.reliable_memory, rules.memory
    for result in sorted(results, key=attrgetter("deadline_block", "task_id")):
        if result.fault is Blame.OPERATOR:
            continue
        record, gain = records[result.hotkey], result.gain
        record.delivered = kept * record.delivered + (gain is not None)
        record.missed = kept * record.missed + (gain is None)
        if gain is None or result.task_id not in best:
            continue
        shown = 0.0 if result.copied else max(gain / best[result.task_id], -1.0)
        record.rating = shown if record.rating is None else memory * record.rating + (1 - memory) * shown
    return records
