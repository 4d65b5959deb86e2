"""Who makes the steps, and why."""

from __future__ import annotations

from typing import Literal

import pytest

from gradients.config import shipped_configs
from gradients.tasks.footprint import like_others
from gradients.tasks.jobs.training import TrainingPlan, TrainResult
from miner.engines import Engine, Speed, choose_engine
from miner.fitting import fitted_plan
from miner.memory import visible_gpus
from miner.plan import read_recipe
from miner.plan_text import memory_of

RECIPE = read_recipe(shipped_configs() / "recipes" / "lora-tuned.toml")
SEVEN = 7 * 10**9


def speed(engine: Engine, tokens: float, *, parameters: int = SEVEN, method: str = "lora") -> Speed:
    return Speed(engine=engine, method=method, parameters=parameters, tokens_per_second=tokens)


@pytest.mark.parametrize(
    ("asked", "on_gpu", "past", "chosen", "reason"),
    [
        ("trl", False, [], "trl", "the recipe says so"),
        ("ours", True, [speed("ours", 1.0), speed("trl", 9.0)], "ours", "the recipe says so"),
        ("auto", False, [speed("ours", 1.0), speed("trl", 9.0)], "ours", "on a CPU"),
        ("auto", True, [], "ours", "of ours nor trl"),
        ("auto", True, [speed("trl", 9000.0)], "ours", "of ours on a base"),
        ("auto", True, [speed("ours", 8000.0), speed("trl", 9000.0)], "trl", "8,000 tokens a second by ours, 9,000"),
        ("auto", True, [speed("ours", 8000.0), speed("trl", 8100.0)], "ours", "8,100 by TRL"),  # within 5 %
        ("auto", True, [speed("ours", 8000.0), speed("trl", 9000.0, parameters=SEVEN // 4)], "ours", "of trl on a"),
        ("auto", True, [speed("ours", 8000.0), speed("trl", 9000.0, method="full")], "ours", "of trl on a"),
    ],
)
def test_a_recipe_says_or_what_was_measured_here(
    asked: Literal["ours", "trl", "auto"], on_gpu: bool, past: list[Speed], chosen: str, reason: str
) -> None:
    choice = choose_engine(asked, method="lora", parameters=SEVEN, on_gpu=on_gpu, past=past)
    assert choice.engine == chosen
    assert reason in choice.reason


def test_a_plan_names_its_engine() -> None:
    past = [speed("ours", 8000.0), speed("trl", 9000.0)]
    fitted = fitted_plan(RECIPE, kind="instruct", shape=like_others(SEVEN), memory=memory_of("h100"), past=past)
    assert (fitted.plan.engine, fitted.engine.engine) == ("trl", "trl")


def test_pictures_are_trained_by_ours_whatever_the_recipe_says() -> None:
    forced = RECIPE.model_copy(update={"plan": {**RECIPE.plan, "engine": "trl"}})
    fitted = fitted_plan(forced, kind="diffusion", shape=like_others(10**9), memory=memory_of("h100"))
    assert fitted.plan.engine == "ours"
    assert "pictures" in fitted.engine.reason
    words = fitted_plan(forced, kind="instruct", shape=like_others(10**9), memory=memory_of("h100"))
    assert words.plan.engine == "trl"


def test_a_speed_is_what_a_run_was_measured_at() -> None:
    plan = TrainingPlan(recipe="r", method="full", learning_rate=1e-3, engine="trl")
    fields = {"kind": "full", "steps": 1, "rows_seen": 8, "learning_rate": 1e-3, "batch_rows": 8, "epochs": 1.0}
    rest = {"candidates": 1, "averaged": 1, "train_loss": 1.0, "validation_loss": None, "seconds": 1.0}
    result = TrainResult.model_validate({**fields, **rest, "engine": "trl", "tokens_per_second": 500.0})
    assert Speed.of(result, plan, parameters=9) == speed("trl", 500.0, parameters=9, method="full")
    assert Speed.of(result.model_copy(update={"tokens_per_second": None}), plan, parameters=9) is None


def test_several_gpus_share_the_work_of_what_is_not_drawn_or_quantised() -> None:
    def planned(gpu: str, *, kind: str = "instruct", **changes: object) -> TrainingPlan:
        recipe = RECIPE.model_copy(update={"plan": {**RECIPE.plan, **changes}})
        return fitted_plan(recipe, kind=kind, shape=like_others(10**9), memory=memory_of(gpu)).plan

    def parts(plan: TrainingPlan) -> tuple[str, int]:
        return plan.engine, plan.processes

    assert parts(planned("h100")) == ("ours", 1)
    assert parts(planned("h100:4")) == ("trl", 4)
    assert parts(planned("h100:16")) == ("trl", 8)  # the batch has eight rows
    assert parts(planned("h100:4", kind="dpo")) == ("trl", 4)
    assert parts(planned("h100:4", engine="ours")) == ("ours", 1)
    assert parts(planned("h100:4", kind="grpo")) == ("ours", 1)
    assert parts(planned("h100:4", load_in_4bit=True)) == ("ours", 1)


@pytest.mark.parametrize(("visible", "seen"), [(None, 3), ("0,2", 2), ("1", 1), ("GPU-a,GPU-b,GPU-c,GPU-d", 3)])
def test_gpus_that_workers_see_are_counted(visible: str | None, seen: int) -> None:
    assert visible_gpus("0, GPU-a, 81559\n1, GPU-b, 81559\n2, GPU-c, 81559\n", visible) == seen
