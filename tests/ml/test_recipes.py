"""Every shipped recipe is one that a miner can run."""

from __future__ import annotations

from pathlib import Path

import pytest

import gradients
from gradients.ml.training import TrainingSettings
from miner.plan import plan_training, read_recipe

FOLDER = Path(gradients.__file__).parents[1] / "configs" / "recipes"
FILES = sorted(FOLDER.glob("*.toml"))
SIZES = (10**5, 2 * 10**6, 10**7, 135 * 10**6, 10**9, 8 * 10**9, 70 * 10**9)


def test_recipes_are_shipped() -> None:
    assert {file.stem for file in FILES} == {"autotrain-default", "full-tuned", "lora-plus", "lora-tuned", "tuned"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recipe_gives_a_plan_for_bases_of_every_size(file: Path) -> None:
    recipe = read_recipe(file)
    assert recipe.name == file.stem
    assert recipe.title
    plans = [plan_training(recipe, task_type="instruct", base_parameters=size) for size in SIZES]
    for method in ("full", "lora"):
        rates = [plan.learning_rate for plan in plans if plan.method == method]
        assert rates == sorted(rates, reverse=True)  # larger bases want smaller rates
    for plan in plans:
        assert plan.recipe == file.stem
        assert not plan.probe_learning_rates or plan.learning_rate in plan.probe_learning_rates
        assert len(plan.probe_learning_rates) * plan.probe_fraction < 0.5
        TrainingSettings(**plan.model_dump(exclude={"recipe", "options"}))


def test_the_baseline_is_what_the_paper_compares_with() -> None:
    plan = plan_training(
        read_recipe(FOLDER / "autotrain-default.toml"), task_type="instruct", base_parameters=2 * 10**6
    )
    assert (plan.method, plan.lora_rank, plan.lora_alpha, plan.lora_dropout) == ("lora", 16, 32.0, 0.05)
    assert (plan.learning_rate, plan.schedule, plan.warmup_fraction, plan.batch_rows) == (3e-5, "linear", 0.1, 8)
    assert plan.max_epochs == 3
    assert plan.validation_fraction == 0.0


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_readme_tells_of_every_recipe(file: Path) -> None:
    assert f"`{file.stem}`" in (FOLDER / "README.md").read_text()
