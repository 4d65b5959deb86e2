"""The rules of pay, chosen by block height: a changed rule is a new version, never an edit.

A task goes by the rules at its start block, and its rows keep their version; weights go by the rules at the block that decides them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from gradients.domain.evaluation import Placing
from gradients.domain.task import Hotkey
from gradients.scoring.chance import Chance
from gradients.scoring.contest import Contest, Part, Result
from gradients.scoring.paper import Paper


class Rules(Protocol):
    """One version: pure functions from measurements to pay."""

    @property
    def version(self) -> int:
        """What rows, records and the chain's version key call it."""
        ...

    @property
    def window_blocks(self) -> int | None:
        """How far before the newest deadline `account` and `draw` look; None: at everything."""
        ...

    def factor(self, *, parameters: int, hours: float) -> float:
        """How much a task counts."""
        ...

    def looks(self, rows: int) -> tuple[int, ...]:
        """After how many of so many rows entrants may stop; the last is all of them."""
        ...

    def rows_needed(self, contest: Contest) -> dict[Hotkey, int]:
        """On how many rows each measured entrant has to be measured, by the rows so far.

        Whoever has fewer needs the next block; when nobody has, what `place` pays is what it would pay with all rows.
        """
        ...

    def place(self, contest: Contest) -> list[Placing]:
        """What one task says about every miner of it."""
        ...

    def account(self, results: Sequence[Result], *, now: float, declared_shares: Mapping[str, float]) -> list[Part]:
        """Where everybody's weight comes from; the parts sum to 1, or there are none."""
        ...

    def draw(
        self, candidates: Sequence[Hotkey], *, results: Sequence[Result], now: float, size: int, seed: int
    ) -> list[Hotkey]:
        """Who gets a task."""
        ...


class Since(NamedTuple):
    """From which block on a version is in force."""

    block: int
    rules: Rules


PAPER, CHANCE = Paper(), Chance()
VERSIONS: Mapping[int, Rules] = {rules.version: rules for rules in (PAPER, CHANCE)}
SCHEDULE: tuple[Since, ...] = (Since(0, CHANCE),)  # no chain has ever seen version 1; it is there to be compared with


def rules_at(block: int, schedule: Sequence[Since] = SCHEDULE) -> Rules:
    """The rules in force at `block`."""
    return next(since.rules for since in reversed(schedule) if since.block <= block)


def rules_of(version: int) -> Rules:
    """A version by its number. Raises ValueError for one that this code does not know."""
    if version not in VERSIONS:
        known = ", ".join(map(str, VERSIONS))
        raise ValueError(f"Version {version} of the rules is not known here (known: {known})")
    return VERSIONS[version]


def shares_of(parts: Sequence[Part]) -> dict[Hotkey, float]:
    """Each miner's share of the weight, which sum to 1; empty when there are no parts."""
    totals: dict[Hotkey, float] = defaultdict(float)
    for part in parts:
        totals[part.hotkey] += part.share
    whole = sum(totals.values())
    return {hotkey: total / whole for hotkey, total in sorted(totals.items()) if total > 0} if whole > 0 else {}
