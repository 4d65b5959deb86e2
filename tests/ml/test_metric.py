"""Measuring all entrants of a task, in this process; one test goes through a real worker."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gradients.domain.json import JsonObject
from gradients.errors import Blame
from gradients.execution.job import Job
from gradients.execution.process import ProcessExecutor
from gradients.execution.records import RESULT
from gradients.tasks.instruct.metric import measure
from gradients.tasks.instruct.spec import INSTRUCT
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from gradients.tasks.workers.measuring import Measured, measure_entrants


def make_full_model(base_folder: Path, folder: Path, *, factor: float) -> Path:
    """A full model whose every weight is the base's times `factor`."""
    folder.mkdir()
    tensors = {name: tensor * factor for name, tensor in load_file(base_folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors")
    shutil.copy(base_folder / "config.json", folder)
    return folder


@pytest.fixture(scope="module")
def entrants(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entrant]:
    """The base twice, two good submissions, one that holds NaN, one whose loss is out of bounds, and an empty one."""
    root = tmp_path_factory.mktemp("entrants")
    (root / "empty").mkdir()
    factors = {"good": 0.9, "better": 0.8, "nan": math.nan, "mad": 300.0}
    folders = {name: make_full_model(base_folder, root / name, factor=factor) for name, factor in factors.items()}
    folders["empty"] = root / "empty"
    made = {name: Entrant(id=name, folder=folder) for name, folder in folders.items()}
    return made | {"base": Entrant(id="base"), "base-again": Entrant(id="base-again")}


class Market:
    """Measures entrants and reads what was left."""

    def __init__(self, base_folder: Path, held_out_file: Path, results: Path) -> None:
        self.base_folder, self.held_out_file, self.results = base_folder, held_out_file, results
        self.told: list[JsonObject] = []

    def job(self, entrants: Sequence[Entrant]) -> JsonObject:
        return MeasureJob(
            base_folder=self.base_folder,
            held_out_file=self.held_out_file,
            parameters={"max_tokens": 256},
            entrants=tuple(entrants),
            results_folder=self.results,
            seed=1,
        ).model_dump(mode="json")

    def measure(self, entrants: Sequence[Entrant]) -> dict[str, EntrantResult]:
        measure(self.job(entrants), self.told.append)
        return self.left()

    def left(self) -> dict[str, EntrantResult]:
        files = sorted(self.results.iterdir())
        return {file.stem: EntrantResult.model_validate_json(file.read_bytes()) for file in files}


@pytest.fixture
def market(base_folder: Path, held_out_file: Path, tmp_path: Path) -> Market:
    return Market(base_folder, held_out_file, tmp_path / "results")


def test_the_value_is_the_mean_over_rows_of_the_rows_mean(market: Market, entrants: dict[str, Entrant]) -> None:
    result = market.measure([entrants["base"]])["base"]
    assert len(result.per_row) == 24
    assert result.value == pytest.approx(sum(result.per_row) / 24)
    assert result.stderr == pytest.approx(statistics.stdev(result.per_row) / math.sqrt(24))
    assert result.value == pytest.approx(math.log(320), rel=0.3)  # a random model knows nothing of 320 tokens
    assert result.extras["perplexity"] == pytest.approx(math.exp(result.extras["token_weighted_loss"]))
    assert result.extras["tokens"] == int(result.extras["tokens"]) > 24
    assert result.failure_blame is None


def test_the_base_measured_first_and_last_gives_the_same_bits(market: Market, entrants: dict[str, Entrant]) -> None:
    order = ["base", "good", "nan", "mad", "empty", "better", "base-again"]
    results = market.measure([entrants[name] for name in order])
    assert results["base"].per_row == results["base-again"].per_row
    assert results["good"].per_row != results["base"].per_row


def test_neither_order_nor_company_changes_anybodys_score(
    base_folder: Path, held_out_file: Path, tmp_path: Path, entrants: dict[str, Entrant]
) -> None:
    seen: dict[str, set[tuple[float, ...]]] = {"base": set(), "good": set(), "better": set()}
    companies = [*itertools.permutations(["base", "good", "better"]), ("nan", "good", "mad", "better", "base")]
    for number, company in enumerate(companies):
        results = Market(base_folder, held_out_file, tmp_path / str(number)).measure([entrants[n] for n in company])
        for name, losses in seen.items():
            losses.add(results[name].per_row)
    assert {name: len(losses) for name, losses in seen.items()} == {"base": 1, "good": 1, "better": 1}


@pytest.mark.parametrize(
    ("name", "code"), [("nan", "tensor_not_finite"), ("mad", "loss_out_of_bounds"), ("empty", "repo_kind")]
)
def test_a_bad_submission_is_its_miners_failure(
    market: Market, entrants: dict[str, Entrant], name: str, code: str
) -> None:
    result = market.measure([entrants[name]])[name]
    assert (result.failure_blame, result.failure_code) == ("miner", code)
    assert result.failure_message
    assert result.value is None
    assert result.per_row == ()


def test_a_base_that_cannot_be_measured_is_not_a_miners_failure(
    base_folder: Path, held_out_file: Path, tmp_path: Path
) -> None:
    broken = shutil.copytree(base_folder, tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"] = torch.full((48,), 300.0)
    save_file(tensors, broken / "model.safetensors")
    result = Market(broken, held_out_file, tmp_path / "results").measure([Entrant(id="base")])["base"]
    assert (result.failure_blame, result.failure_code) == ("operator", "loss_out_of_bounds")


@pytest.mark.parametrize("problem", [OverflowError("too large"), MemoryError(), KeyError("x"), RecursionError("deep")])
def test_what_nobody_foresaw_is_not_the_miners_fault_and_stops_nobody_else(market: Market, problem: Exception) -> None:
    def measured(entrant: Entrant, _: object) -> Measured:
        if entrant.id == "odd":
            raise problem
        return Measured([] if entrant.id == "empty" else [1.0, 2.0], {})

    entrants = [Entrant(id=name) for name in ("odd", "empty", "good")]
    job = MeasureJob.model_validate(market.job(entrants))
    measure_entrants(job, measured, rows=2, report=market.told.append)
    results = market.left()
    assert results["good"].value == 1.5
    for name in ("odd", "empty"):
        assert (results[name].failure_blame, results[name].failure_code) == ("operator", "measuring_failed")
    assert f"{type(problem).__name__}: {problem}" in results["odd"].failure_message


def test_what_is_known_is_not_measured_again(market: Market, entrants: dict[str, Entrant]) -> None:
    known = EntrantResult(entrant="good", value=1.25, per_row=(1.25,), stderr=0.0)
    failed = EntrantResult(entrant="better", failure_blame=Blame.MINER, failure_code="tensor_shape")
    market.results.mkdir()
    for result in (known, failed):
        (market.results / f"{result.entrant}.json").write_text(result.model_dump_json())
    results = market.measure([entrants[name] for name in ("good", "better", "base")])
    assert results["good"] == known
    assert results["better"] == failed
    assert {progress["entrant"] for progress in market.told} == {"base"}


@pytest.mark.parametrize(
    "left",
    ['{"entrant": "good", "val', EntrantResult(entrant="good", failure_blame=Blame.OPERATOR).model_dump_json()],
    ids=["a torn file", "a failure of ours"],
)
def test_what_failed_by_our_fault_is_measured_again(market: Market, entrants: dict[str, Entrant], left: str) -> None:
    market.results.mkdir()
    (market.results / "good.json").write_text(left)
    assert market.measure([entrants["good"]])["good"].value is not None


def test_progress_names_the_entrant_and_ends_with_all_rows(market: Market, entrants: dict[str, Entrant]) -> None:
    market.measure([entrants["base"], entrants["good"]])
    assert [progress for progress in market.told if progress["rows_done"] == 24] == [
        {"entrant": "base", "rows_done": 24, "rows": 24},
        {"entrant": "good", "rows_done": 24, "rows": 24},
    ]


def test_a_worker_measures_with_one_thread_in_float32_the_same_numbers(
    market: Market, entrants: dict[str, Entrant], tmp_path: Path
) -> None:
    here = market.measure([entrants["base"], entrants["good"]])
    there = Market(market.base_folder, market.held_out_file, tmp_path / "by-worker")
    job = Job(
        function=INSTRUCT.measure,
        arguments=there.job([entrants["base"], entrants["good"]]),
        folder=tmp_path / "job",
        deadline_seconds=600,
    )
    where = asyncio.run(ProcessExecutor().run(job, report=there.told.append))
    assert where == {"device": "cpu", "precision": "float32", "threads": 1}
    assert {name: result.per_row for name, result in there.left().items()} == {
        name: result.per_row for name, result in here.items()
    }
    assert there.told
    assert json.loads((tmp_path / "job" / RESULT).read_text())["result"] == where
