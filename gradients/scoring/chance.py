"""Version 2 of the rules: each task pays by the chance of being its best model, and pay is a sum over tasks.

1. Only a model that beats the base beyond paired noise is a fine-tune.
2. Submissions that are one model are one entry; the earliest commitment in the chain is its payee (copies.py).
3. A task's prize is shared by the chance of being best: in how many of 1,000 resamples of the held-out rows, with a little luck of training
   added, an entrant's mean is the best one. Equal models share, clear winners take all, nothing flips at a hair.
4. Weights are sums over tasks, by size, type and age in blocks (account.py); a task that nobody won pays nobody.
5. A failure of the validator's leaves no row, and is made good (account.py); one of the miner's earns nothing, and costs nothing either.
6. The draw goes by rating, by lot and by reliability (lots.py).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from gradients.domain.evaluation import Placing
from gradients.domain.task import Hotkey
from gradients.scoring.account import AccountRules, account
from gradients.scoring.contest import Contest, Entry, Part, Result, failed, size_factor
from gradients.scoring.copies import Copy, CopyLimits, find_copies
from gradients.scoring.lots import DrawRules, draw
from gradients.scoring.racing import RaceLimits, looks, rows_needed
from gradients.scoring.stopping import Bar


@dataclass(frozen=True, slots=True)
class Chance:
    """Version 2, and every constant of it."""

    version: int = 2
    base_z: float = 2.326  # better than the base at 1 %, one-sided, paired over rows …
    base_share: float = 0.005  # … and by this part of the base's value at least
    luck: float = 0.01  # of training again, in parts of the best gain
    near: float = 0.35  # who is further behind than this part of the best gain has no chance
    resamples: int = 1000
    size_floor_billions: float = 0.0  # the time of a tiny base counts as a tiny base's
    size_cap_billions: float = 40.0
    most_factor: float = 20.0
    copies: CopyLimits = field(default_factory=CopyLimits)
    race: RaceLimits = field(default_factory=RaceLimits)
    accounts: AccountRules = field(default_factory=AccountRules)
    lots: DrawRules = field(default_factory=DrawRules)
    type_shares: Mapping[str, float] = field(  # the schedule's own mix: one table for what is asked and what is paid
        default_factory=lambda: MappingProxyType(
            {"instruct": 0.28, "chat": 0.28, "dpo": 0.17, "diffusion": 0.15, "rag": 0.08, "grpo": 0.04}
        )
    )

    @property
    def window_blocks(self) -> int | None:
        """How far before the newest deadline rows are looked at."""
        return self.accounts.window_blocks

    def factor(self, *, parameters: int, hours: float) -> float:
        """How much a task counts."""
        factor = size_factor(
            parameters, hours, floor_billions=self.size_floor_billions, cap_billions=self.size_cap_billions
        )
        return min(factor, self.most_factor)

    def looks(self, rows: int) -> tuple[int, ...]:
        """After how many of so many rows entrants may stop; the last is all of them."""
        return looks(rows, self.race)

    def rows_needed(self, contest: Contest) -> dict[Hotkey, int]:
        """On how many rows each measured entrant has to be measured for prizes to be what they are with all rows (racing.py)."""
        luck = {
            entry.hotkey: self.luck * _luck(entry.hotkey, seed=contest.seed, count=self.resamples)
            for entry in contest.entries
            if entry.rows
        }
        bar = Bar(self.base_share * contest.base_size, self.base_z, self.near)
        return rows_needed(contest, self.race, copies=self.copies, bar=bar, luck=luck)

    def place(self, contest: Contest) -> list[Placing]:
        """Chances of all miners, best first, then fine-tunes without a chance, whatever is not one, and failures."""
        factor = self.factor(parameters=contest.base_parameters, hours=contest.hours)
        measured = [entry for entry in contest.entries if entry.rows]
        copies = find_copies(contest, self.copies)
        size = contest.base_size
        gains = {entry.hotkey: contest.gains(entry) for entry in measured}
        means = _means(contest, measured, copies)
        fine = [
            e
            for e in measured
            if e.hotkey not in copies and self._beats_base(means[e.hotkey], gains[e.hotkey], size, len(contest.base))
        ]
        racing = {entry.hotkey: gains[entry.hotkey] for entry in fine if contest.in_full(entry)}
        chances = self._chances(racing, contest.seed)
        ranked = sorted(fine, key=lambda e: (-means[e.hotkey], e.order))
        ranks = {entry.hotkey: rank for rank, entry in enumerate(ranked, start=1)}

        def placed(entry: Entry) -> Placing:
            hotkey, gain = entry.hotkey, means[entry.hotkey]
            copy, chance = copies.get(hotkey), chances.get(hotkey, 0.0)
            how = f"rank {ranks.get(hotkey)} of {len(ranks)}, {gain / size:.2%} better than the base"
            if copy:
                why = f"the same model as {copy.source}'s, which was committed first: {copy.evidence}"
            elif hotkey not in ranks:
                why = f"not better than the base beyond noise ({gain / size:+.2%}); not counted as a fine-tune"
            elif not contest.in_full(entry):
                why = f"{how} by its first {len(entry.rows)} of {len(contest.base)} rows; stopped early, without a chance of being best"
            else:
                why = f"{how}; best with a chance of {chance:.1%}"
            return Placing(
                hotkey,
                ranks.get(hotkey),
                chance,
                chance * factor,
                why,
                gain=gain,
                copy_of=copy.source if copy else None,
            )

        others = sorted((e for e in measured if e.hotkey not in ranks), key=lambda e: (e.hotkey in copies, e.hotkey))
        failures = sorted((e for e in contest.entries if e.failure), key=lambda e: e.hotkey)
        return [
            *(placed(entry) for entry in (*ranked, *others)),
            *(failed(entry, entry.failure) for entry in failures if entry.failure),
        ]

    def account(self, results: Sequence[Result], *, now: float, declared_shares: Mapping[str, float]) -> list[Part]:
        """What each task pays each miner. The clock has no say: ages are blocks before the newest deadline."""
        return account(results, self.accounts, shares={**declared_shares, **self.type_shares})

    def draw(
        self, candidates: Sequence[Hotkey], *, results: Sequence[Result], now: float, size: int, seed: int
    ) -> list[Hotkey]:
        """At most `size` of the candidates; the order of both arguments changes nothing."""
        return draw(candidates, results, self.lots, size=size, seed=seed)

    def _beats_base(self, mean: float, gains: np.ndarray, size: float, rows: int) -> bool:
        """Whether a model is a fine-tune. `gains`: how much better than the base each row is, of `rows` or of those it was measured on."""
        spread = float(gains.std(ddof=1)) if len(gains) > 1 else 0.0
        return mean > max(self.base_z * spread / math.sqrt(rows), self.base_share * size)

    def _chances(self, gains: Mapping[Hotkey, np.ndarray], seed: int) -> dict[Hotkey, float]:
        """hotkey -> chance of being the best; they sum to 1, or there are none."""
        if not gains:
            return {}
        reached = {hotkey: float(each.mean()) for hotkey, each in gains.items()}
        best = max(reached.values())
        near = sorted(hotkey for hotkey, mean in reached.items() if mean > (1 - self.near) * best)
        means = resampled_means(np.stack([gains[hotkey] for hotkey in near]), count=self.resamples, seed=seed)
        luck = np.stack([_luck(hotkey, seed=seed, count=self.resamples) for hotkey in near])
        won = np.bincount((means + self.luck * best * luck).argmax(axis=0), minlength=len(near))
        return {hotkey: float(wins) / self.resamples for hotkey, wins in zip(near, won, strict=True)}


def _means(contest: Contest, measured: Sequence[Entry], copies: Mapping[Hotkey, Copy]) -> dict[Hotkey, float]:
    """The gain of everybody; of whoever stopped early it is the best one's less what it was behind on the same rows."""
    means = {entry.hotkey: float(contest.gains(entry).mean()) for entry in measured}
    full = [entry for entry in measured if contest.in_full(entry) and entry.hotkey not in copies]
    best = max(full, key=lambda entry: (means[entry.hotkey], entry.hotkey), default=None)
    for entry in measured:
        if best and not contest.in_full(entry):
            there = contest.gains(best, known=len(entry.rows))
            means[entry.hotkey] = means[best.hotkey] - float((there - contest.gains(entry)).mean())
    return means


def _luck(hotkey: Hotkey, *, seed: int, count: int) -> np.ndarray:
    """[count]: of training again, standard normal, an entrant's own."""
    return standard_normal(count, f"{seed}:luck:{hotkey}")


def resampled_means(rows: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """[k, count]: the means of [k, n] rows over `count` draws of n rows with replacement, the same draws for all k.

    From the bit generator's raw stream, which is the same in every version of numpy; distributions built on it need not be.
    """
    n = rows.shape[1]
    places = (_raw(count * n, f"{seed}:rows") * np.uint64(n) >> np.uint64(32)).view(np.int64).reshape(count, n)
    places += n * np.arange(count)[:, None]
    times = np.bincount(places.ravel(), minlength=count * n).reshape(count, n)
    means: np.ndarray = rows @ (times.T / n)
    return means


def _raw(count: int, purpose: str) -> np.ndarray:
    """`count` whole numbers of 32 bits."""
    start = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:16], "big")
    found: np.ndarray = np.random.PCG64(start).random_raw(count) >> np.uint64(32)
    return found


def standard_normal(count: int, purpose: str) -> np.ndarray:
    """[count] standard normal numbers (Box and Muller), the same for the same purpose in every version of numpy."""
    uniform = (_raw(2 * count, purpose).astype(np.float64) + 0.5) / 2.0**32
    found: np.ndarray = np.sqrt(-2.0 * np.log(uniform[:count])) * np.cos(2.0 * np.pi * uniform[count:])
    return found
