"""Fields of entrants for the tests of version 2: bases and fine-tunes with values per row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradients.domain.evaluation import Better
from gradients.domain.failure import Failure
from gradients.domain.task import Hotkey
from gradients.errors import Blame
from gradients.scoring.contest import SCHEDULED, Contest, Entry, Result, Winner

ROWS = 120


def base_rows(seed: int, rows: int = ROWS) -> np.ndarray:
    """[rows]: losses of an untouched base."""
    found: np.ndarray = np.random.default_rng([seed, 1]).gamma(25, 1 / 25, rows) * 2
    return found


def field(seed: int, size: int, *, best: float = 0.15, spread: float = 0.1) -> list[Entry]:
    """Independent fine-tunes m0, m1, … of a base; each is `best` or up to `spread` less better than it, with 4 % of noise on each row."""
    rng, base = np.random.default_rng([seed, 2]), base_rows(seed)
    skills = best - rng.uniform(0, spread, size)
    noise = 0.08 * rng.standard_normal((size, len(base)))
    return [
        entry(f"m{i}", base * (1 - skill) + noise[i], block=int(rng.integers(0, 99)), extrinsic=i)
        for i, skill in enumerate(skills)
    ]


def entry(name: str, rows: np.ndarray, *, block: int = 50, extrinsic: int = 0) -> Entry:
    """A measured entrant."""
    return Entry(Hotkey(name), tuple(map(float, rows)), block, extrinsic)


def failure(name: str, blame: Blame) -> Entry:
    """An entrant without a measurement."""
    return Entry(Hotkey(name), (), failure=Failure(blame, "broken", "it broke"))


def contest(
    entries: Sequence[Entry], seed: int, *, better: Better = "lower", earlier: Sequence[Winner] = (), hours: float = 1.0
) -> Contest:
    """The field's contest on the base of the same seed."""
    base = base_rows(seed) if better == "lower" else -base_rows(seed)
    return Contest(tuple(entries), tuple(map(float, base)), better, 10**9, hours, seed, tuple(earlier))


def result(
    hotkey: str,
    points: float,
    *,
    task: str = "t0",
    kind: str = "instruct",
    customer: str = SCHEDULED,
    block: int = 1_000_000,
    factor: float = 1.0,
    gain: float | None = 0.1,
    copied: bool = False,
    fault: Blame | None = None,
    version: int = 2,
) -> Result:
    """A row of a scored task."""
    return Result(
        task,
        kind,
        customer,
        Hotkey(hotkey),
        points,
        points * factor,
        factor,
        None if fault else gain,
        copied,
        fault,
        block,
        0.0,
        version,
    )
