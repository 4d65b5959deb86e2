"""The arms: who trains, by what settings, for how many tokens. A unit of budget is what three passes over the train rows take.

Of pictures, which are few and seen often, it is what AutoTrain takes: 500 steps of 4.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

from gradients.config import shipped_configs
from gradients.tasks.footprint import shape_in
from gradients.tasks.jobs.training import TrainingPlan
from miner.fitting import fitted_plan
from miner.memory import installed_memory
from miner.plan import Recipe, plan_training, read_recipe
from miner.settings import MinerSettings

PASSES = 3  # of AutoTrain, of TRL and of most others by default
PICTURES = 2_000  # that a unit of budget trains on
LONGER = 4  # times the budget, of the arms that show what more of it brings
RECIPES = ("autotrain-default", "lora-tuned", "lora-plus", "full-tuned")
COMPETITORS = 4  # of a market, and draws of its control
SEARCHED = 24  # settings of the oracle, and units of the planner that it is compared with


GRID = tuple(product(("lora-tuned", "full-tuned"), (0.3, 1.0, 3.0), (4, 16), (1.5, PASSES)))  # the oracle's


class Where(NamedTuple):
    """What a plan may depend on."""

    kind: str  # of task
    base: Path
    parameters: int  # of the base
    seed: int


@dataclass(frozen=True, slots=True)
class Lora:
    """Shape of an adapter."""

    rank: int
    alpha: int
    dropout: float


@dataclass(frozen=True, slots=True)
class Trl:
    """Settings of TRL's trainers, for answers and for preferences."""

    learning_rate: float
    preference_rate: float
    lora: Lora | None
    epochs: float = PASSES
    batch_rows: int = 8
    accumulated: int = 1
    schedule: str = "linear"
    warmup: float = 0.0
    packed_tokens: int | None = None  # of a block; all tokens count then, as raw text has no prompt


@dataclass(frozen=True, slots=True)
class Diffusers:
    """Settings of a plain loop over diffusers, for pictures. Rank and rate are those of AutoTrain and of diffusers' example."""

    batch_rows: int
    steps: int
    learning_rate: float = 1e-4
    rank: int = 4

    @property
    def budget(self) -> float:
        """In units."""
        return self.steps * self.batch_rows / PICTURES


@dataclass(frozen=True, slots=True)
class Ours:
    """A training job as a miner's attempt makes one."""

    plan: Callable[[Where], TrainingPlan]
    budget: float = 1.0


@dataclass(frozen=True, slots=True)
class Arm:
    """Who trains."""

    name: str
    title: str
    how: Trl | Ours | None  # None hands in the base
    short: bool = False  # whether the short benchmark has it
    asked: bool = False  # whether it is run only where it is named: it costs many times what others do
    pictures: Diffusers | Ours | None = None  # how it trains on them; None: not at all

    def trains(self, *, of_pictures: bool) -> bool:
        """Whether it has a way to train on texts, or on pictures. The base is handed in of both."""
        return self.how is None or not of_pictures or self.pictures is not None

    def way(self, *, of_pictures: bool) -> Trl | Ours | Diffusers | None:
        """How it trains on texts, or on pictures."""
        return self.pictures if of_pictures else self.how


def budget(how: Trl | Ours | Diffusers | None) -> float:
    """What a way takes, in units."""
    if isinstance(how, Trl):
        return how.epochs / PASSES
    return how.budget if how else 0.0


AUTOTRAIN = Trl(3e-5, 3e-5, Lora(16, 32, 0.05), batch_rows=2, accumulated=4, warmup=0.1, packed_tokens=512)
COMMUNITY = Trl(2e-4, 5e-6, Lora(16, 32, 0.0))
DREAMBOOTH = Diffusers(batch_rows=4, steps=500)  # AutoTrain's (1 x 4 accumulated)
EXAMPLE = Diffusers(batch_rows=16, steps=PICTURES // 16)  # diffusers' train_text_to_image_lora.py, for as many pictures


def recipe(name: str) -> Recipe:
    """One that ships."""
    return read_recipe(shipped_configs() / "recipes" / f"{name}.toml")


def by_recipe(name: str, where: Where) -> TrainingPlan:
    """The recipe as it is, without a look at the machine."""
    return plan_training(recipe(name), task_type=where.kind, base_parameters=where.parameters)


def by_planner(where: Where) -> TrainingPlan:
    """What the reference miner hands its trainer when its operator has touched no setting (miner/trainings.py)."""
    chosen = MinerSettings.model_fields["recipe"].get_default(call_default_factory=True)
    fitted = fitted_plan(
        read_recipe(chosen),
        kind=where.kind,
        shape=shape_in(where.base, where.parameters),
        memory=installed_memory(),
    )
    return fitted.plan


def at_random(number: int, where: Where) -> TrainingPlan:
    """A draw from around the shipped recipes: ten times their rates either way, other batches, passes and ranks."""
    draw = random.Random(f"{number} {where.kind} {where.seed}")
    plan = by_recipe(draw.choice(("lora-tuned", "full-tuned")), where)
    return plan.model_copy(
        update={
            "recipe": f"random-{number}",
            "learning_rate": min(plan.learning_rate * 10 ** draw.uniform(-1, 1), 1.0),
            "probe_learning_rates": (),
            "batch_rows": draw.choice((4, 8, 16, 32)),
            "max_epochs": draw.uniform(1, PASSES),
            "lora_rank": draw.choice((8, 16, 32, 64)),
            "warmup_fraction": draw.uniform(0, 0.1),
        }
    )


def of_grid(number: int, where: Where) -> TrainingPlan:
    """One of the oracle's settings: way of training, rate around the recipe's, batch and passes; nothing is searched.

    Args:
        number: 1 to SEARCHED.
    """
    name, factor, batch_rows, epochs = GRID[number - 1]
    plan = by_recipe(name, where)
    return plan.model_copy(
        update={
            "recipe": f"oracle-{number}",
            "learning_rate": min(factor * plan.learning_rate, 1.0),
            "probe_learning_rates": (),
            "batch_rows": batch_rows,
            "max_epochs": epochs,
            "candidates": 1,
        }
    )


def _arms() -> list[Arm]:
    titles = {name: recipe(name).title for name in RECIPES}
    ways = {name: Ours(partial(by_recipe, name)) for name in RECIPES}
    recipes = [
        Arm(
            name,
            f"recipe: {titles[name]}",
            way,
            short=True,
            pictures=way if "diffusion" in recipe(name).types else None,
        )
        for name, way in ways.items()
    ]
    planner, longer = Ours(by_planner), Ours(by_planner, LONGER)
    shared = [
        Arm(f"{name}/{COMPETITORS}", f"{name} with a quarter", Ours(partial(by_recipe, name), 1 / COMPETITORS))
        for name in RECIPES
    ]
    draws = [
        Arm(f"random-{number}", "a random plan", Ours(partial(at_random, number)))
        for number in range(1, COMPETITORS + 1)
    ]
    grid = [
        Arm(f"oracle-{number}", "settings of a grid", Ours(partial(of_grid, number)), asked=True)
        for number in range(1, SEARCHED + 1)
    ]
    long, longest = f"x{LONGER}", f"planner-x{SEARCHED}"
    return [
        Arm("base", "the untouched base", None, short=True),
        Arm(
            "autotrain",
            "AutoTrain's settings in TRL: LoRA r16, 3e-5, packed, all tokens",
            AUTOTRAIN,
            short=True,
            pictures=DREAMBOOTH,
        ),
        Arm("trl", "TRL's defaults: full, 2e-5", Trl(2e-5, 1e-6, None)),
        Arm(
            "community",
            "LoRA r16, 2e-4, answers only (Unsloth, Axolotl) in TRL",
            COMMUNITY,
            short=True,
            pictures=EXAMPLE,
        ),
        Arm("together", "Together's default: LoRA r64, 1e-5, one pass", Trl(1e-5, 1e-5, Lora(64, 128, 0.0), epochs=1)),
        *recipes,
        Arm("planner", "the reference miner as it plans", planner, short=True, pictures=planner),
        Arm(
            f"autotrain-{long}",
            f"autotrain, {LONGER} times the passes",
            _longer(AUTOTRAIN),
            pictures=_more_steps(DREAMBOOTH),
        ),
        Arm(
            f"community-{long}",
            f"community, {LONGER} times the passes",
            _longer(COMMUNITY),
            pictures=_more_steps(EXAMPLE),
        ),
        Arm(f"planner-{long}", f"planner, {LONGER} times the budget", longer, pictures=longer),
        *draws,
        *shared,
        *grid,
        Arm(longest, f"planner, {SEARCHED} times the budget", Ours(by_planner, SEARCHED), asked=True),
    ]


def _longer(settings: Trl) -> Trl:
    return replace(settings, epochs=LONGER * settings.epochs)


def _more_steps(settings: Diffusers) -> Diffusers:
    return replace(settings, steps=LONGER * settings.steps)


ARMS: dict[str, Arm] = {arm.name: arm for arm in _arms()}

# Who is best by the selection rows hands in; its test rows are reported.
MARKETS: dict[str, tuple[str, ...]] = {
    f"market of {COMPETITORS}": RECIPES,
    f"market of {COMPETITORS}, equal total": tuple(f"{name}/{COMPETITORS}" for name in RECIPES),
    f"best of {COMPETITORS} random": tuple(f"random-{number}" for number in range(1, COMPETITORS + 1)),
    f"best of {SEARCHED} settings": tuple(f"oracle-{number}" for number in range(1, SEARCHED + 1)),
}

# The best member by the test rows, which nobody can know beforehand: a bound, not a competitor.
ORACLES: dict[str, tuple[str, ...]] = {
    "best recipe": RECIPES,
    f"oracle of {SEARCHED}": MARKETS[f"best of {SEARCHED} settings"],
}
