"""Measuring and training GRPO tasks on a tiny base.

The numbered cases are ways in which scores of rewards are known to have gone to the wrong miner.
"""

from __future__ import annotations

import itertools
import math
import shutil
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import JsonValue
from safetensors.torch import load_file, save_file

from gradients.domain.json import JsonObject
from gradients.tasks.grpo.metric import measure
from gradients.tasks.grpo.spec import GrpoParameters, GrpoRow
from gradients.tasks.grpo.trainer import train
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from gradients.tasks.jobs.training import TrainingPlan, TrainJob, TrainResult
from gradients.testing.sandboxes import reason_to_skip

NO_SANDBOX = reason_to_skip()
needs_sandbox = pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX or "there is one")
SHORT: JsonValue = {"kind": "length", "unit": "characters", "at_least": 1, "at_most": 6, "weight": 3}
HAS_E: dict[str, JsonValue] = {"kind": "regular_expression", "pattern": "e"}


def parameters(*rewards: JsonValue, **more: JsonValue) -> dict[str, JsonValue]:
    asked = {"rewards": list(rewards or [SHORT, HAS_E]), "max_new_tokens": 10, "samples": 3, "beta": 0.1, **more}
    return GrpoParameters.model_validate(asked).model_dump(mode="json")


@pytest.fixture(scope="module")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("grpo") / "rows.jsonl"
    rows = [GrpoRow(prompt=f"Where is number {number}?" * (1 + number % 3)) for number in range(12)]
    file.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def folders(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Full models: two that differ, the base with huge weights, and one that holds NaN."""
    root = tmp_path_factory.mktemp("entrants")
    base = load_file(base_folder / "model.safetensors")
    factors = {"near": 0.95, "far": 0.6, "endless": 1e12, "nan": math.nan}
    for name, factor in factors.items():
        (root / name).mkdir()
        tensors = {key: tensor.float() * factor for key, tensor in base.items()}
        save_file(tensors, root / name / "model.safetensors")
        shutil.copy(base_folder / "config.json", root / name)
    return {name: root / name for name in factors}


class Market:
    """Measures entrants by name."""

    def __init__(self, base: Path, rows: Path, folders: Mapping[str, Path], root: Path) -> None:
        self.base, self.rows, self.folders, self.root = base, rows, folders, root
        self.runs = itertools.count()

    def measure(
        self, *names: str, asked: Mapping[str, JsonValue] | None = None, seed: int = 1
    ) -> dict[str, EntrantResult]:
        results = self.root / str(next(self.runs))
        job = MeasureJob(
            base_folder=self.base,
            held_out_file=self.rows,
            parameters=dict(asked or parameters()),
            entrants=tuple(Entrant(id=name, folder=self.folders.get(name.partition(":")[0])) for name in names),
            results_folder=results,
            seed=seed,
        )
        measure(job.model_dump(mode="json"), ignore)
        return {name: EntrantResult.model_validate_json((results / f"{name}.json").read_bytes()) for name in names}


@pytest.fixture
def market(base_folder: Path, rows_file: Path, folders: dict[str, Path], tmp_path: Path) -> Market:
    return Market(base_folder, rows_file, folders, tmp_path)


def test_the_value_is_the_weighted_reward_less_beta_times_the_divergence(market: Market) -> None:
    result = market.measure("far")["far"]
    extras = result.extras
    reward = (3 * extras["reward_1_length"] + extras["reward_2_regular_expression"]) / 4
    assert extras["reward"] == pytest.approx(reward)
    assert result.value == pytest.approx(reward - 0.1 * extras["kl"])
    assert extras["kl"] > 0.01
    assert len(result.per_row) == 12
    assert result.value == pytest.approx(statistics.fmean(result.per_row))


def test_the_base_has_no_divergence_and_a_value_on_the_same_footing(market: Market) -> None:
    base = market.measure("base")["base"]
    assert base.extras["kl"] == 0.0
    assert base.value == pytest.approx(base.extras["reward"])


def test_r1_a_failed_entrant_moves_nobody_elses_score(market: Market) -> None:
    alone = {name: market.measure(name)[name].per_row for name in ("far", "near", "base")}
    for order in (("nan", "far", "near", "base"), ("base", "nan", "near", "endless", "far")):
        together = market.measure(*order)
        assert {name: together[name].per_row for name in alone} == alone
        assert together["nan"].value is None


def test_r2_equal_submissions_have_equal_scores_below_zero_too(market: Market) -> None:
    asked = parameters({"kind": "regular_expression", "pattern": "no answer says this"}, beta=10.0)
    for names in (("far", "far:again"), ("far:again", "far")):
        results = market.measure(*names, asked=asked)
        assert results["far"].per_row == results["far:again"].per_row
        assert (results["far"].value or 0) < 0


def test_r3_who_breaks_the_divergence_has_no_score(market: Market) -> None:
    result = market.measure("endless")["endless"]
    assert result.value is None
    assert (result.failure_blame, result.failure_code) == ("miner", "kl_not_finite")


def test_r4_worse_below_zero_is_lower(market: Market) -> None:
    asked = parameters({"kind": "regular_expression", "pattern": "no answer says this"}, beta=10.0)
    results = market.measure("base", "near", "far", asked=asked)
    assert results["base"].value == 0
    assert 0 > (results["near"].value or 0) > (results["far"].value or 0)


def test_the_seed_decides_the_answers(market: Market) -> None:
    first, second = (market.measure("far", seed=seed)["far"].per_row for seed in (1, 2))
    assert first != second


@needs_sandbox
def test_a_reward_function_that_fails_is_never_a_miners_failure(market: Market) -> None:
    source = "def reward(completion, row):\n    raise ValueError('our mistake')"
    results = market.measure("base", "far", "nan", asked=parameters({"kind": "function", "source": source}))
    assert [results[name].failure_blame for name in ("base", "far", "nan")] == ["customer", "customer", "miner"]
    assert "our mistake" in results["far"].failure_message


FAILS_ON_E: JsonValue = {
    "kind": "function",
    "source": "def reward(completion, row):\n    if 'e' in completion:\n        raise ValueError\n    return 1",
}


@needs_sandbox
def test_a_function_that_fails_on_some_answers_gives_these_nothing_and_voids_nobody(market: Market) -> None:
    has_e = market.measure("base", "far", asked=parameters({**HAS_E, "negated": True}))
    fails = market.measure("base", "far", asked=parameters(FAILS_ON_E))
    for name in ("base", "far"):
        assert fails[name].per_row == has_e[name].per_row
        assert fails[name].extras["reward_1_function"] == has_e[name].extras["reward_1_regular_expression"]
        assert fails[name].extras["reward_failures"] == pytest.approx(36 * (1 - fails[name].extras["reward"]))
        assert 0 < fails[name].extras["reward_failures"] < 36
        assert has_e[name].extras["reward_failures"] == 0


@needs_sandbox
def test_who_trips_a_function_with_every_answer_has_a_score_all_the_same(market: Market) -> None:
    source = "def reward(completion, row):\n    if completion not in ('', row['prompt']):\n        raise ValueError\n    return 1"
    result = market.measure("far", asked=parameters({"kind": "function", "source": source}))["far"]
    assert (result.extras["reward"], result.extras["reward_failures"]) == (0.0, 36.0)
    assert result.value == pytest.approx(-0.1 * result.extras["kl"])


@needs_sandbox
def test_a_customers_function_measures(market: Market) -> None:
    source = "def reward(completion, row):\n    return len(completion) + len(row['prompt']) * 0"
    asked = parameters({"kind": "function", "source": source, "high": 1000})
    assert 0 < market.measure("base", asked=asked)["base"].extras["reward_1_function"] < 1


def test_a_full_fine_tune_finds_what_is_rewarded(market: Market, tmp_path: Path) -> None:
    """A LoRA does by both engines: test_engine_contract.py."""
    asked = parameters(beta=0.01)
    job = train_job(market, tmp_path, asked, method="full", max_epochs=10.0)
    result = TrainResult.model_validate(train(job.model_dump(mode="json"), ignore))
    assert result.kind == "full"
    trained = Market(market.base, market.rows, {"ours": job.output_folder}, tmp_path / "results")
    measured = trained.measure("base", "ours", asked=asked)
    assert (measured["ours"].value or 0) > (measured["base"].value or 0) + 0.05


@needs_sandbox
@pytest.mark.parametrize("source", ["raise ValueError", "return 1 / completion.count('e')"])
def test_a_customers_function_that_fails_ends_no_miners_training(market: Market, tmp_path: Path, source: str) -> None:
    asked = parameters({"kind": "function", "source": f"def reward(completion, row):\n    {source}"})
    job = train_job(market, tmp_path, asked, method="lora", max_epochs=1.0)
    assert TrainResult.model_validate(train(job.model_dump(mode="json"), ignore)).steps > 0


def train_job(market: Market, folder: Path, asked: dict[str, JsonValue], *, method: str, max_epochs: float) -> TrainJob:
    plan: dict[str, object] = {
        "recipe": "test",
        "method": method,
        "learning_rate": 1e-2 if method == "lora" else 3e-3,
        "max_epochs": max_epochs,
        "options": {"answers": 8},
    }
    return TrainJob(
        base_folder=market.base,
        train_file=market.rows,
        parameters=asked,
        plan=TrainingPlan.model_validate(plan),
        seed=3,
        deadline_unix=time.time() + 600,
        checkpoint_folder=folder / "checkpoint",
        output_folder=folder / "output",
    )


def ignore(_: JsonObject) -> None:
    """Progress that nobody watches."""
