"""How long a task should train: from its tokens, how fast they are trained on, the size of the base and what its type asks for. Pure.

The rule is the one that the subnet's task creation has used since 2026 (`compute_training_hours` of gradients-ai/G.O.D). A GPU trains
989e12 x 0.15 / (6 N) tokens a second on a base of N weights (an H100's dense bfloat16 peak at 15 % use, 6 operations a weight and token),
or what was measured, taken between a third and three times of that;

    hours = 2 epochs x tokens per epoch x m / (tokens a second x GPUs) / 3600 + 0.75,

rounded up to quarter hours, within 0.75 and 6. m is the type's work factor. A row counts 64 tokens at least; before anything is known of
them, 400. Types whose time does not go by tokens have fixed hours by size of the base. GPUs are what the tournament gives: by weights times
the type's GPU factor, 1 up to 4 billion, 2 up to 12, 4 up to 40, else 8. The factors and the fixed hours stand in each type's declaration.

People compare that with what the market drew before, by rows alone (`hours_by_rows`). The paper (arXiv 2506.07940, method, time) has 3-6 h
from 10,000 rows, 4-8 from 25,000, 5-9 from 50,000, 7-10 from 100,000 to 500,000, and 1-2 for images. Below 10,000 rows it has nothing;
there the subnet's later code is shown, 1-3 h (constants.py of rayonlabs/G.O.D at 86623e9, December 2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

PEAK_FLOPS = 989e12
UTILISATION = 0.15
OPERATIONS = 6  # per weight and token, forward and backward
LOWEST_OF_RULE, HIGHEST_OF_RULE = 0.33, 3.0  # of the speed by rule, between which a measured one is believed
EPOCHS = 2
OVERHEAD_HOURS = 0.75
SHORTEST_RULE_HOURS, LONGEST_RULE_HOURS, STEP_HOURS = 0.75, 6.0, 0.25
FEWEST_TOKENS_PER_ROW = 64
ASSUMED_TOKENS_PER_ROW = 400
BILLION = 1e9
GPUS = ((4, 1), (12, 2), (40, 4), (math.inf, 8))  # up to so many billions of weights
PAPER, LATER_CODE = "the paper, arXiv 2506.07940", "the subnet's code of December 2025"
FEWEST_ROWS_OF_PAPER = 10_000
PAPER_BY_ROWS = ((25_000, (3, 6)), (50_000, (4, 8)), (100_000, (5, 9)), (math.inf, (7, 10)))
PAPER_IMAGES = (1, 2)
LATER_FEW_ROWS = (1, 3)

Reference = Literal["h100", "here"]  # whose speed counts: a GPU's by the rule, or the machine's that measured


@dataclass(frozen=True, slots=True)
class Effort:
    """What a task type asks of GPUs, beside supervised training on its tokens."""

    work_factor: float = 1.0  # work per token
    gpu_factor: int = 1  # how often the weights count when GPUs are given out
    fixed_hours: tuple[tuple[float, float], ...] | None = (
        None  # up to so many billions of weights; then tokens play no part
    )

    @property
    def goes_by_tokens(self) -> bool:
        """Whether the hours depend on tokens and their speed at all."""
        return self.fixed_hours is None


@dataclass(frozen=True, slots=True)
class Workload:
    """What is known of a task before it starts."""

    effort: Effort
    rows: int
    parameters: int  # weights of the base
    tokens_per_row: float | None = None  # mean over rows, as they are read; None before they are counted
    tokens_per_second: float | None = None  # measured on one device; None before it is measured

    @property
    def tokens(self) -> int:
        """Tokens of one epoch."""
        a_row = (
            ASSUMED_TOKENS_PER_ROW if self.tokens_per_row is None else max(self.tokens_per_row, FEWEST_TOKENS_PER_ROW)
        )
        return math.ceil(self.rows * a_row)


class HoursBudget(NamedTuple):
    """The hours, and what they were computed from."""

    hours: float
    tokens_per_second: float | None  # of all GPUs; None where tokens play no part
    gpus: int


class ByRows(NamedTuple):
    """Bounds in hours, and their source."""

    shortest: int
    longest: int
    source: str


def budget(work: Workload, *, reference: Reference = "h100") -> HoursBudget:
    """How long miners should train."""
    effort, billions = work.effort, work.parameters / BILLION
    gpus = 1 if reference == "here" else int(_up_to(GPUS, effort.gpu_factor * billions))
    if effort.fixed_hours is not None:
        return HoursBudget(_up_to(effort.fixed_hours, billions), None, gpus)
    speed = gpus * speed_of(work, reference=reference)
    hours = EPOCHS * work.tokens * effort.work_factor / speed / 3600 + OVERHEAD_HOURS
    steps = math.ceil(hours / STEP_HOURS - 1e-9)  # 0.75 is three quarters, whatever floats make of it
    return HoursBudget(min(max(steps * STEP_HOURS, SHORTEST_RULE_HOURS), LONGEST_RULE_HOURS), speed, gpus)


def speed_of(work: Workload, *, reference: Reference) -> float:
    """Tokens a second of one device."""
    by_rule = PEAK_FLOPS * UTILISATION / (OPERATIONS * work.parameters)
    if work.tokens_per_second is None:
        return by_rule
    if reference == "here":
        return work.tokens_per_second
    return min(max(work.tokens_per_second, LOWEST_OF_RULE * by_rule), HIGHEST_OF_RULE * by_rule)


def hours_by_rows(rows: int, *, draws_images: bool) -> ByRows:
    """The shortest and the longest budget that the market gave before, by rows alone, and who says so."""
    if draws_images:
        return ByRows(*PAPER_IMAGES, PAPER)
    if rows < FEWEST_ROWS_OF_PAPER:
        return ByRows(*LATER_FEW_ROWS, LATER_CODE)
    return ByRows(*next(bounds for most, bounds in PAPER_BY_ROWS if rows <= most), PAPER)


def _up_to(table: tuple[tuple[float, float], ...], value: float) -> float:
    return next(result for most, result in table if value <= most)
