"""Version 1 of the rules: the paper's (arXiv 2506.07940, section 4), with the constants of its public code where the text is silent.

It stays as it is, to compare with and to read old rows by. Measured faults of it, all mended in version 2:
- whoever has a mean of 0 is paid S(0) for presence: 16 idle hotkeys earn 11 %;
- a failure that is not the miner's counts as a task in the mean, and costs it up to half its pay;
- the best is paid also when it is worse than the base; 1e-9 of noise makes a copy a fine-tune and may put it first;
- sum·mean and S are not additive: one model on eight hotkeys earns 2.6 to 4.6 times one;
- pay per task depends on the type by up to 14 times; windows end in cliffs and by the wall clock;
- a worthless entry moves the bottom quarter; the draw's order of equals is the alphabet's.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from gradients.domain.evaluation import Placing
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.contest import Contest, Entry, Part, Result, failed, size_factor

SECONDS_PER_DAY = 86_400.0
LOWEST_CHANCE = 0.01


@dataclass(frozen=True, slots=True)
class Paper:
    """Version 1, and every constant of it."""

    version: int = 1
    window_blocks: int | None = None  # windows are of the clock: every row is looked at
    first_points: float = 3.0  # the best entrant
    last_points: float = -1.0  # the bottom quarter of a large field, and a miner's own failure
    large_field: int = 8  # the bottom quarter loses points only when more entrants than this have a measurement
    size_floor_billions: float = 1.0
    size_cap_billions: float = 40.0
    windows: tuple[tuple[float, float], ...] = ((1.0, 0.3), (3.0, 0.3), (7.0, 0.4))  # (days, share of the weight)
    type_shares: Mapping[str, float] = field(
        default_factory=lambda: MappingProxyType(
            {"instruct": 0.20, "chat": 0.10, "rag": 0.05, "dpo": 0.10, "grpo": 0.20, "diffusion": 0.35}
        )
    )
    sigmoid_steepness: float = 9.0
    sigmoid_centre: float = 0.5
    sigmoid_power: float = 0.75
    sigmoid_share: float = 0.7
    linear_share: float = 0.05
    newcomer_chance: float = 2.0  # draw weight of a miner without a task today
    favourite_factor: float = 3.0  # the best miner is drawn this much more often than the last

    def factor(self, *, parameters: int, hours: float) -> float:
        """How much a task counts."""
        return size_factor(
            parameters, hours, floor_billions=self.size_floor_billions, cap_billions=self.size_cap_billions
        )

    def looks(self, rows: int) -> tuple[int, ...]:
        """After how many of so many rows entrants may stop: every place pays, so after all."""
        return (rows,)

    def rows_needed(self, contest: Contest) -> dict[Hotkey, int]:
        """On how many rows each measured entrant has to be measured: on all."""
        return {entry.hotkey: len(contest.base) for entry in contest.entries if entry.rows}

    def place(self, contest: Contest) -> list[Placing]:
        """Places and points of all miners, best first, failures last.

        Equal values: the earlier commitment keeps the place. The base's own value is not a fine-tune. Raises ValueError for one that
        was not measured on all rows.
        """
        if early := [entry.hotkey for entry in contest.entries if entry.rows and not contest.in_full(entry)]:
            raise ValueError(f"{early[0]} was not measured on all rows, and version {self.version} pays every place")
        factor = self.factor(parameters=contest.base_parameters, hours=contest.hours)
        base_value = math.fsum(contest.base) / len(contest.base)
        measured = sorted(
            (entry for entry in contest.entries if entry.rows),
            key=lambda e: (contest.sign * e.value, e.committed_at_block, e.hotkey),
        )
        distinct, left_out = list[Entry](), list[tuple[Entry, str]]()
        for entry in measured:  # of equal values the first keeps the place: it committed earlier
            if entry.value == base_value:
                left_out.append((entry, BASE_ENTRANT))
            elif distinct and entry.value == distinct[-1].value:
                left_out.append((entry, distinct[-1].hotkey))
            else:
                distinct.append(entry)

        def placed(entry: Entry, rank: int | None, points: float, why: str, source: str | None = None) -> Placing:
            gain = contest.sign * (base_value - entry.value)
            source = Hotkey(source) if source else None
            return Placing(entry.hotkey, rank, points, points * factor, why, gain=gain, copy_of=source)

        count = len(distinct)
        losers = count // 4 if count > self.large_field else 0
        placings = []
        for rank, entry in enumerate(distinct, start=1):
            points, why = 0.0, f"rank {rank} of {count}"
            if rank == 1:
                points, why = self.first_points, "best of the field"
            elif rank > count - losers:
                points, why = self.last_points, f"bottom quarter of {count} entrants"
            placings.append(placed(entry, rank, points, why))
        own_fault = self.last_points if count else 0.0  # it costs points only when somebody else delivered
        for entry, source in left_out:
            like = "the base does" if source == BASE_ENTRANT else "an earlier one"
            why = f"measures exactly as {like}; not counted as a fine-tune"
            placings.append(placed(entry, None, own_fault, why, source))
        failures = [(entry, entry.failure) for entry in contest.entries if entry.failure is not None]
        for entry, failure in sorted(failures, key=lambda pair: pair[0].hotkey):
            points = own_fault if failure.blame is Blame.MINER else 0.0
            placings.append(failed(entry, failure, points=points, adjusted_points=points * factor))
        return placings

    def account(self, results: Sequence[Result], *, now: float, declared_shares: Mapping[str, float]) -> list[Part]:
        """What each type pays each miner in each window; empty when nobody has earned anything.

        Every task type that was active spreads its share over the windows, every window over its miners. A miner whose points average
        below zero in a window gets nothing from it; the paper leaves this case open.

        Args:
            now: seconds since the Unix epoch.
            declared_shares: of task types that the rules do not name; a type that neither names pays nothing.
        """
        parts = []
        active = sorted({result.task_type for result in results})
        paid = {name: self.type_shares.get(name, declared_shares.get(name, 0.0)) for name in active}
        for task_type, type_share in paid.items():
            of_type = [result for result in results if result.task_type == task_type]
            for days, window_share in self.windows:
                window = [result for result in of_type if now - result.scored_at <= days * SECONDS_PER_DAY]
                why = f"{task_type}, last {days:g} days"
                for hotkey, share in self._window_shares(window).items():
                    parts.append(Part(hotkey, type_share * window_share * share, "", why))
        whole = math.fsum(part.share for part in parts)
        return [Part(part.hotkey, part.share / whole, "", part.why) for part in parts] if whole > 0 else []

    def draw(
        self, candidates: Sequence[Hotkey], *, results: Sequence[Result], now: float, size: int, seed: int
    ) -> list[Hotkey]:
        """At most `size` of the candidates without replacement; better miners more often, newcomers first of all.

        Args:
            candidates: who accepted the offer, in any order; the result does not depend on it.
            results: of which the last day's count; a miner without any is a newcomer.
        """
        today: dict[Hotkey, list[float]] = defaultdict(list)
        for result in results:
            if result.scored_at >= now - SECONDS_PER_DAY:
                today[result.hotkey].append(result.points)
        means = {hotkey: math.fsum(points) / len(points) for hotkey, points in today.items()}
        standing = {h: max(means.get(h, self.newcomer_chance), LOWEST_CHANCE) for h in candidates}
        ordered = sorted(candidates, key=lambda hotkey: (-standing[hotkey], hotkey))
        step = (self.favourite_factor - 1.0) / max(len(ordered), 1)
        generator = random.Random(seed)
        # Efraimidis and Spirakis: the largest u^(1/w) are a weighted sample without replacement.
        keys = {
            h: generator.random() ** (1.0 / (self.favourite_factor - rank * step)) for rank, h in enumerate(ordered)
        }
        return sorted(ordered, key=lambda hotkey: -keys[hotkey])[:size]

    def curve(self, x: float) -> float:
        """S(x) = 0.7·sigmoid(9·(x - 0.5))^0.75 + 0.05·x for x in 0..1: S(1) = 0.744, S(0.5) = 0.441, S(0) = 0.024."""
        sigmoid = 1.0 / (1.0 + math.exp(-self.sigmoid_steepness * (x - self.sigmoid_centre)))
        return self.sigmoid_share * math.pow(sigmoid, self.sigmoid_power) + self.linear_share * x

    def _window_shares(self, results: Sequence[Result]) -> Mapping[Hotkey, float]:
        """Shares within one window, summing to 1; empty when nobody scored above zero."""
        by_miner: dict[Hotkey, list[Result]] = defaultdict(list)
        for result in results:
            by_miner[result.hotkey].append(result)
        means = {hotkey: math.fsum(r.points for r in own) / len(own) for hotkey, own in by_miner.items()}
        scores = {
            hotkey: math.fsum(r.adjusted_points for r in by_miner[hotkey]) * mean
            for hotkey, mean in means.items()
            if mean >= 0
        }
        best = max(scores.values(), default=0.0)
        if best <= 0:
            return {}
        curved = {hotkey: self.curve(max(score, 0.0) / best) for hotkey, score in scores.items()}
        whole = math.fsum(curved.values())
        return {hotkey: value / whole for hotkey, value in curved.items()}
