"""Trains the demonstration's field of 16 miners, and keeps what every model measures on every held-out row.

Four miners for each of the demonstration's recipes, each with a seed of its own and so many seconds of one core.
`docs/benchmarks/racing-rows` holds what came of it; `scripts/bench racing` simulates on these files.

The environment's RACING_SECONDS says how long each trains.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from gradients.config import shipped_configs
from gradients.files.whole import write_text
from gradients.localnet.plan import DEMO_RECIPES
from gradients.tasks.jobs.measuring import EntrantResult
from gradients.tasks.registry import task_type
from miner.plan import plan_training, read_recipe
from scripts.benchmarks.copies import Effort, market_of
from scripts.benchmarks.timing import Figure, figure

ROWS_FOLDER = Path(__file__).parents[2] / "docs" / "benchmarks" / "racing-rows"
MINERS = 16
TYPE = "instruct"  # the other types' demonstrations have fewer than 100 held-out rows
SECONDS = 45.0  # of training; the demonstration gives each miner 72 on a machine that all of them share
PARAMETERS = 2_000_000  # of the shipped base, for the recipes' tables
WHOLE = Effort(100_000, 400, 3.0)  # all train rows, the largest held-out side


def racing_rows() -> Iterator[Figure]:
    """Train, measure and keep; the figures are the field's values."""
    seconds = float(os.environ.get("RACING_SECONDS", SECONDS))
    results = _measured(seconds)
    rows = {entrant: [float(f"{value:.7g}") for value in each.per_row] for entrant, each in results.items()}
    ROWS_FOLDER.mkdir(exist_ok=True)
    kept = {"better": task_type(TYPE).metric.better, "rows": rows}
    write_text(ROWS_FOLDER / f"{TYPE}-{seconds:g}s.json", json.dumps(kept, separators=(",", ":")) + "\n")
    for entrant, each in results.items():
        yield figure(f"value of {entrant}", task_type(TYPE).metric.unit, [cast(float, each.value)])


def _measured(seconds: float) -> dict[str, EntrantResult]:
    with tempfile.TemporaryDirectory() as folder:
        market = market_of(TYPE, Path(folder), WHOLE)
        recipes: Sequence[str] = DEMO_RECIPES
        entrants: dict[str, Path | None] = {"base": None}
        for miner in range(MINERS):
            recipe = read_recipe(shipped_configs() / "recipes" / f"{recipes[miner % len(recipes)]}.toml")
            plan = plan_training(recipe, task_type=TYPE, base_parameters=PARAMETERS).model_dump()
            who = f"miner-{miner + 1} {recipe.name}"
            entrants[who] = market.train(who, seed=100 + miner, changes=plan, seconds=seconds)
        return dict(market.measure(entrants))
