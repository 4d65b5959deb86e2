"""The recipes benchmark's judge, meter and baselines, on real models."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from gradients.bases.bases import SHIPPED
from gradients.tasks.instruct.metric import measure
from gradients.tasks.jobs import Entrant, EntrantResult, MeasureJob
from scripts.benchmarks.recipes import evaluator
from scripts.benchmarks.recipes.command import append, read
from scripts.benchmarks.recipes.meter import READ, TOKENS_PER_SECOND, TRAINED, Meter
from scripts.benchmarks.recipes.run import Done, Run

ROOT = Path(__file__).parents[2]
NANO = SHIPPED / "nano-lm"
ROWS = (
    ("Where is the harbour?", "By the sea."),
    ("Name a tree that grows by the water.", "The willow, which likes wet ground and bends in the wind."),
    ("Count.", "1, 2, 3"),
)


@pytest.fixture(scope="module")
def nano() -> evaluator.Model:
    return evaluator.load(NANO)


@pytest.fixture(scope="module")
def encoded() -> list[evaluator.Encoded]:
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    return [evaluator.encode(tokenizer, prompt, answer) for prompt, answer in ROWS]


def test_a_model_that_knows_nothing_loses_the_logarithm_of_its_vocabulary(
    base_folder: Path, encoded: list[evaluator.Encoded]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    size = model.config.vocab_size
    rows = [evaluator.Encoded([token % size for token in row.tokens], row.start) for row in encoded]
    assert evaluator.completion_losses(model, rows) == pytest.approx([math.log(size)] * len(rows), abs=1e-5)


def test_a_rows_loss_is_the_mean_over_its_answer_whatever_it_is_read_with(
    nano: evaluator.Model, encoded: list[evaluator.Encoded]
) -> None:
    expected = []
    for tokens, start in encoded:
        with torch.no_grad():
            logs = nano(input_ids=torch.tensor([tokens])).logits[0].log_softmax(dim=-1)
        by_token = [-logs[place - 1, tokens[place]].item() for place in range(start, len(tokens))]
        expected.append(sum(by_token) / len(by_token))
    assert evaluator.completion_losses(nano, encoded) == pytest.approx(expected, abs=1e-4)


def test_the_judge_agrees_with_the_metric_of_instruct_tasks(
    nano: evaluator.Model, encoded: list[evaluator.Encoded], tmp_path: Path
) -> None:
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text("".join(json.dumps({"prompt": p, "completion": a}) + "\n" for p, a in ROWS), encoding="utf-8")
    job = MeasureJob(
        base_folder=NANO,
        held_out_file=held_out,
        parameters={},
        entrants=(Entrant(id="base"),),
        results_folder=tmp_path,
        seed=0,
    )
    measure(job.model_dump(mode="json"), lambda _: None)
    theirs = EntrantResult.model_validate_json((tmp_path / "base.json").read_bytes()).per_row
    assert evaluator.completion_losses(nano, encoded) == pytest.approx(theirs, abs=1e-4)


def test_the_base_itself_has_ln_2_on_preferences(nano: evaluator.Model, encoded: list[evaluator.Encoded]) -> None:
    losses = evaluator.preference_losses(nano, nano, encoded, encoded[::-1])
    assert losses == pytest.approx([math.log(2)] * len(encoded))


@pytest.fixture
def meter() -> Iterator[Meter]:
    meter = Meter()
    handle = meter.watch()
    yield meter
    handle.remove()


def test_a_trained_token_costs_three_times_a_read_one_and_time_passes_by_it(base_folder: Path, meter: Meter) -> None:
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32)
    tokens, started = torch.ones(2, 5, dtype=torch.int64), meter.now()
    with torch.no_grad():
        model.train()(input_ids=tokens)
    assert (meter.units, meter.trained_tokens) == (READ * 10, 0)
    model(input_ids=tokens).logits.sum().backward()
    assert (meter.units, meter.trained_tokens) == ((READ + TRAINED) * 10, 10)
    assert meter.now() - started == pytest.approx(meter.units / (TRAINED * TOKENS_PER_SECOND), abs=1e-5)


def done(arm: str) -> Done:
    run = Run(base=None, task="kinship", arm=arm, seed=1, data="d", clock="tokens", seconds=15)
    return Done(run=run, selection=(1.0,), test=(1.0, 2.0))


def test_seconds_tell_runs_apart_by_the_walls_clock_alone() -> None:
    def keys(clock: str) -> set[tuple[str, ...]]:
        run = done("base").run.model_copy(update={"clock": clock})
        return {run.model_copy(update={"seconds": seconds}).key for seconds in (15, 60)}

    assert (len(keys("tokens")), len(keys("wall"))) == (1, 2)


def test_a_line_that_a_kill_cut_short_is_run_again(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    append(file, done("base"))
    append(file, done("planner"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert list(read(file)) == [done("base")]
    append(file, done("planner"))
    assert file.read_bytes() == whole


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text('{"a": 1}\n', encoding="utf-8")
    with pytest.raises(SystemExit, match=r"Line 1 of .*runs.jsonl is not a run"):
        list(read(file))


@pytest.mark.slow
def test_the_bench_compares_what_it_ran_within_the_budget_and_runs_nothing_twice(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    arms = ["autotrain", "lora-tuned", "planner"]
    command = [sys.executable, "-m", "scripts.benchmarks", "recipes", "--short", "--json", "--tasks", "kinship"]
    command += ["--train-rows", "24", "--workers", "1", "--runs", str(file), "--arms", *arms]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=6000)
    summary = json.loads(said.stdout.splitlines()[-1])
    assert (summary["runs"], summary["failed"]) == (4, 0)
    against = {(pair["arm"], pair["against"]): pair for pair in summary["pairs"]}
    assert set(against) == {("lora-tuned", "autotrain"), ("planner", "autotrain"), ("planner", "lora-tuned")}
    assert all(pair["low"] <= pair["mean_gain"] <= pair["high"] for pair in summary["pairs"])
    by_arm = {each.run.arm: each for each in read(file)}
    assert by_arm["base"].units == 0
    for arm in ("lora-tuned", "planner"):
        assert 0 < by_arm[arm].units <= by_arm[arm].unit_budget
        assert len(by_arm[arm].test) == 80
    before = file.read_bytes()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600)
    assert (again.stdout.splitlines()[-1], file.read_bytes()) == (said.stdout.splitlines()[-1], before)
