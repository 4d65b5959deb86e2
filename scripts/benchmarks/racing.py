"""What racing saves and what it costs: simulated fields of 16, placed with all rows and as raced.

Stored fields are what the demonstration's 16 miners measure on its 294 held-out rows (racing_rows.py), their rows drawn anew for each
simulated field. The others are made up: close and wide fields, copies, and rows with heavy tails.

The environment's RACING_FIELDS says how many of each.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, cast

import numpy as np

from gradients.domain.evaluation import Better
from gradients.domain.task import Hotkey
from gradients.scoring.contest import Contest, Entry
from gradients.scoring.rules import CHANCE
from scripts.benchmarks.racing_rows import MINERS, ROWS_FOLDER
from scripts.benchmarks.timing import Figure, figure

FIELDS = 1000
ROWS, MANY_ROWS = 400, 1600
MUCH = 0.01  # of a task's prize


class Rows(NamedTuple):
    """A simulated field."""

    base: np.ndarray  # [n]
    entrants: np.ndarray  # [k, n]
    better: Better = "lower"


Field = Callable[[np.random.Generator], Rows]


class Played(NamedTuple):
    """One field, placed twice."""

    saved: float  # part of the entrants' rows
    best: float  # the largest prize, with all rows
    moved: float  # largest change of a prize
    copies_differ: bool


@dataclass(frozen=True, slots=True)
class Stored:
    """A type's stored field."""

    base: np.ndarray
    entrants: np.ndarray
    better: Better

    def drawn(self, rng: np.random.Generator, count: int | None = None) -> Rows:
        """The field on other rows like these, by default as many."""
        rows = rng.integers(0, len(self.base), count or len(self.base))
        return Rows(self.base[rows], self.entrants[:, rows], self.better)

    def shaken(self, rng: np.random.Generator) -> Rows:
        """The same on 400 rows, with gains that differ by some percent from those measured: other miners of the same kind."""
        field = self.drawn(rng, ROWS)
        factors = 1 + 0.05 * rng.standard_normal((len(field.entrants), 1))
        return field._replace(entrants=field.base + (field.entrants - field.base) * factors)


def racing() -> Iterator[Figure]:
    """Of each kind of field: rows saved, prizes changed, and by how much at most."""
    count = int(os.environ.get("RACING_FIELDS", FIELDS))
    for name, field in _fields().items():
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
        played = [play(field(np.random.default_rng([seed, i])), seed=seed + i) for i in range(count)]
        yield figure(f"{name}: rows saved, median", "%", [100 * each.saved for each in played])
        yield figure(f"{name}: rows saved, mean", "%", [100 * float(np.mean([each.saved for each in played]))])
        yield figure(f"{name}: largest prize, mean", "share", [float(np.mean([each.best for each in played]))])
        changed = sum(each.moved > 0 for each in played)
        yield figure(f"{name}: fields with another prize", f"of {count}", [float(changed)])
        much = sum(each.moved > MUCH for each in played)
        yield figure(f"{name}: … by more than 1 % of the task's", f"of {count}", [float(much)])
        yield figure(f"{name}: largest change of a prize", "share", [max(each.moved for each in played)])
        yield figure(f"{name}: fields with other copies", f"of {count}", [float(sum(e.copies_differ for e in played))])


def play(field: Rows, *, seed: int) -> Played:
    """One field with all rows and raced."""
    entries = tuple(
        Entry(Hotkey(f"m{i:02}"), tuple(rows.tolist()), committed_at_block=i) for i, rows in enumerate(field.entrants)
    )
    whole = Contest(entries, tuple(field.base.tolist()), field.better, 10**9, 1.0, seed)
    needed = CHANCE.rows_needed(whole)
    full, raced = (
        {placing.hotkey: placing for placing in CHANCE.place(each)} for each in (whole, whole.stopped_after(needed))
    )
    return Played(
        1 - sum(needed.values()) / (len(field.base) * len(entries)),
        max(placing.points for placing in full.values()),
        max(abs(full[hotkey].points - raced[hotkey].points) for hotkey in full),
        any(full[hotkey].copy_of != raced[hotkey].copy_of for hotkey in full),
    )


def stored_fields() -> dict[str, Stored]:
    """By name."""
    found = {}
    for file in sorted(ROWS_FOLDER.glob("*.json")):
        kept = json.loads(file.read_text(encoding="utf-8"))
        base, *entrants = kept["rows"].values()
        found[file.stem] = Stored(np.array(base), np.array(entrants), cast(Better, kept["better"]))
    return found


def made_up(
    *, step: float, noise: float = 0.045, tail: float | None = None, rare: float = 0.0, copies: int = 0
) -> Field:
    """Fine-tunes of a base as the simulated market draws them (gradients/simulator/tasks.py).

    Args:
        step: of skill, from one entrant to the next worse one.
        noise: of a model's row, in parts of the base's value.
        tail: degrees of freedom of that noise; None is normal.
        rare: part of the rows on which a model breaks, by three times the base's value.
        copies: of the best, with a little noise, in the places of the worst.
    """

    def field(rng: np.random.Generator) -> Rows:
        base = 2.0 * rng.gamma(25, 1 / 25, ROWS)
        gain = rng.uniform(0.05, 0.30)
        skills = 1 - step * np.arange(MINERS) + 0.05 * rng.standard_normal(MINERS)
        drawn = rng.standard_normal((MINERS, ROWS)) if tail is None else rng.standard_t(tail, (MINERS, ROWS))
        rows = base * (1 - gain * skills[:, None]) + 2.0 * noise * drawn
        rows += 6.0 * (rng.random((MINERS, ROWS)) < rare)
        for i in range(MINERS - copies, MINERS):
            rows[i] = rows[0] + 1e-3 * rng.standard_normal(ROWS) - 1e-3
        return Rows(base, rng.permutation(rows))

    return field


def _fields() -> dict[str, Field]:
    stored = stored_fields()
    return {
        **{f"demonstration, {name}": each.drawn for name, each in stored.items()},
        **{f"demonstration on 400 rows, {name}": partial(each.drawn, count=ROWS) for name, each in stored.items()},
        **{
            f"demonstration on 1,600 rows, {name}": partial(each.drawn, count=MANY_ROWS)
            for name, each in stored.items()
        },
        **{f"demonstration shaken, {name}": each.shaken for name, each in stored.items()},
        "wide": made_up(step=0.05),
        "close": made_up(step=0.02),
        "all alike": made_up(step=0.0),
        "five copies of the best": made_up(step=0.03, copies=5),
        "heavy tails": made_up(step=0.03, tail=3.0),
        "models that break on 1 % of rows": made_up(step=0.03, rare=0.01),
        "little gained": made_up(step=0.05, noise=0.25),
    }
