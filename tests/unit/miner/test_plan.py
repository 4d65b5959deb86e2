"""From a recipe to the hyper-parameters of one run, and to the time that it may take."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.config import shipped_configs
from gradients.errors import SetupError
from gradients.tasks.jobs.training import TrainingPlan
from miner.plan import COMMIT_BLOCKS, LearningRate, Recipe, TypeChanges, plan_training, read_recipe, seconds_to_train

FOLDER = shipped_configs() / "recipes"
FILES = sorted(FOLDER.glob("*.toml"))
README = (FOLDER / "README.md").read_text(encoding="utf-8")
RECIPE = Recipe.model_validate(
    {
        "name": "stairs",
        "plan": {"method": "lora", "lora_rank": 8},
        "learning_rate": [
            {"up_to_parameters": 1000, "value": 1e-2},
            {"up_to_parameters": 1e6, "value": 1e-3, "probes": [5e-4, 1e-3]},
            {"up_to_parameters": "inf", "value": 1e-4},
        ],
    }
)


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("parameters", "rate", "probes"),
    [(1, 1e-2, ()), (1000, 1e-2, ()), (1001, 1e-3, (5e-4, 1e-3)), (10**6, 1e-3, (5e-4, 1e-3)), (10**12, 1e-4, ())],
)
def test_the_first_row_that_is_large_enough_gives_the_rate(
    parameters: int, rate: float, probes: tuple[float, ...]
) -> None:
    plan = plan_training(RECIPE, task_type="instruct", base_parameters=parameters)
    assert (plan.learning_rate, plan.probe_learning_rates, plan.recipe, plan.lora_rank) == (rate, probes, "stairs", 8)


@given(order=st.permutations(RECIPE.learning_rate), parameters=st.integers(1, 10**12))
def test_the_order_of_the_rows_plays_no_part(order: list[LearningRate], parameters: int) -> None:
    shuffled = RECIPE.model_copy(update={"learning_rate": tuple(order)})
    assert plan_training(shuffled, task_type="instruct", base_parameters=parameters) == plan_training(
        RECIPE, task_type="instruct", base_parameters=parameters
    )


def test_a_base_beyond_the_last_row_takes_the_last_row() -> None:
    short = RECIPE.model_copy(update={"learning_rate": RECIPE.learning_rate[:2]})
    assert plan_training(short, task_type="instruct", base_parameters=10**9).learning_rate == 1e-3


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name = ", "Invalid value"),
        ('name = "x"\n[plan]\nmethod = "lora"', "learning_rate"),
        ('name = "x"\nlearning_rate = []\n[plan]\nmethod = "lora"', "learning_rate"),
        ('name = "x"\ncolour = "red"\n[plan]\nmethod = "lora"', "colour"),
        ('name = "x"\n[plan]\nmethod = "guess"\n[[learning_rate]]\nup_to_parameters = inf\nvalue = 1e-3', "method"),
        (
            'name = "x"\n[plan]\nmethod = "lora"\n[[learning_rate]]\nup_to_parameters = 5e7\nvalue = 1e-3\nplan = { epoch = 1 }',
            "epoch",
        ),
        (
            'name = "x"\n[plan]\nmethod = "lora"\nrank = 3\n[[learning_rate]]\nup_to_parameters = inf\nvalue = 1e-3',
            "rank",
        ),
        ('name = "x"\n[plan]\nmethod = "lora"\n[[learning_rate]]\nup_to_parameters = inf\nvalue = 2.0', "value"),
    ],
    ids=[
        "no TOML",
        "no rates",
        "empty rates",
        "unknown key",
        "unknown method",
        "unknown field for a size",
        "unknown plan field",
        "rate too high",
    ],
)
def test_a_recipe_that_is_not_usable_says_what_is_wrong(tmp_path: Path, text: str, named: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SetupError, match=named) as caught:
        read_recipe(file)
    assert str(file) in caught.value.message
    assert "configs/recipes" in (caught.value.fix or "")


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file") as caught:
        read_recipe(tmp_path / "none.toml")
    assert "none.toml" in caught.value.message


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_shipped_recipe_is_usable_and_called_like_its_file(file: Path) -> None:
    recipe = read_recipe(file)
    assert (recipe.name, bool(recipe.title)) == (file.stem, True)
    assert recipe.learning_rate[-1].up_to_parameters == float("inf")


def test_a_task_type_changes_rate_plan_and_options_of_its_own_tasks_only() -> None:
    changes = TypeChanges(learning_rate_factor=0.1, plan={"lora_rank": 4}, options={"beta": 0.1})
    recipe = RECIPE.model_copy(update={"types": {"dpo": changes}})
    plan = plan_training(recipe, task_type="dpo", base_parameters=1001)
    assert plan.learning_rate == pytest.approx(1e-4)
    assert plan.probe_learning_rates == pytest.approx((5e-5, 1e-4))
    assert (plan.lora_rank, plan.options) == (4, {"beta": 0.1})
    assert plan_training(recipe, task_type="instruct", base_parameters=1001) == plan_training(
        RECIPE, task_type="instruct", base_parameters=1001
    )


def test_a_row_changes_the_plan_for_bases_of_its_size_and_a_type_has_the_last_word() -> None:
    small = {"up_to_parameters": 1000, "value": 1e-2, "plan": {"method": "full", "batch_rows": 4}}
    recipe = RECIPE.model_copy(
        update={
            "learning_rate": (LearningRate.model_validate(small), *RECIPE.learning_rate[1:]),
            "types": {"diffusion": TypeChanges(plan={"method": "lora"})},
        }
    )
    plans = [
        plan_training(recipe, task_type=kind, base_parameters=size)
        for kind, size in (("instruct", 1000), ("instruct", 1001), ("diffusion", 1000))
    ]
    assert [(plan.method, plan.batch_rows) for plan in plans] == [("full", 4), ("lora", 8), ("lora", 4)]


@pytest.mark.parametrize("parameters", [2 * 10**6, 5 * 10**7, 135 * 10**6, 7 * 10**9])
def test_the_default_trains_all_weights_of_small_bases_and_is_lora_tuned_for_others(parameters: int) -> None:
    tuned, lora, full = (read_recipe(FOLDER / f"{name}.toml") for name in ("tuned", "lora-tuned", "full-tuned"))
    like = full if parameters <= 5 * 10**7 else lora
    for kind in ("instruct", "chat", "dpo", "grpo", "rag", "diffusion"):
        plan = plan_training(tuned, task_type=kind, base_parameters=parameters)
        other = plan_training(lora if kind == "diffusion" else like, task_type=kind, base_parameters=parameters)
        assert plan.method == other.method
        if plan.method == "lora":
            assert plan.model_dump(exclude={"recipe", "learning_rate"}) == other.model_dump(
                exclude={"recipe", "learning_rate"}
            )
            assert plan.learning_rate == pytest.approx(other.learning_rate, rel=0.02)


def test_a_types_factor_may_depend_on_the_size_of_the_base() -> None:
    rows = [{"up_to_parameters": 1000, "value": 0.5}, {"up_to_parameters": "inf", "value": 0.1}]
    changes = TypeChanges.model_validate({"learning_rate_factor": rows})
    recipe = RECIPE.model_copy(update={"types": {"dpo": changes}})
    rates = [plan_training(recipe, task_type="dpo", base_parameters=size).learning_rate for size in (1000, 1001, 10**7)]
    assert rates == pytest.approx([5e-3, 1e-4, 1e-5])


def test_a_type_whose_factor_has_no_rows_is_trained_at_the_recipes_rate() -> None:
    recipe = RECIPE.model_copy(update={"types": {"dpo": TypeChanges(learning_rate_factor=())}})
    assert plan_training(recipe, task_type="dpo", base_parameters=1000).learning_rate == 1e-2


def test_recipes_are_shipped() -> None:
    assert len(FILES) >= 4


def test_the_readmes_example_is_a_recipe(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    recipe = read_recipe(write(tmp_path, example))
    assert plan_training(recipe, task_type="instruct", base_parameters=2 * 10**6).learning_rate == 1e-3
    assert plan_training(recipe, task_type="instruct", base_parameters=10**9).probe_learning_rates == (5e-6, 1e-5, 2e-5)


def test_the_readme_names_the_plans_fields_that_a_recipe_cannot_set() -> None:
    for field in ("recipe", "learning_rate", "probe_learning_rates"):
        assert field in TrainingPlan.model_fields
        assert f"`{field}`" in README
        for file in FILES:
            assert field not in tomllib.loads(file.read_text(encoding="utf-8"))["plan"]


def test_the_readme_tells_of_every_recipe_and_of_no_other() -> None:
    told = set(re.findall(r"^\| `([\w-]+)` \|", README, flags=re.MULTILINE))
    assert told == {file.stem for file in FILES}


def test_time_to_train_leaves_room_for_the_commitment() -> None:
    # from block 100 to 200, less 3 blocks, at 12 s, less 5 s: 97 x 12 - 5
    assert seconds_to_train(block=100, deadline_block=200, block_seconds=12.0, keep_seconds=5.0) == 1159.0
    assert COMMIT_BLOCKS == 3


@given(block=st.integers(0, 10**6), ahead=st.integers(-100, 10**4), seconds=st.floats(0.1, 12), keep=st.floats(1, 600))
def test_training_always_ends_three_blocks_before_the_deadline(
    block: int, ahead: int, seconds: float, keep: float
) -> None:
    left = seconds_to_train(block=block, deadline_block=block + ahead, block_seconds=seconds, keep_seconds=keep)
    assert left + keep + COMMIT_BLOCKS * seconds == pytest.approx(ahead * seconds, abs=1e-6)
