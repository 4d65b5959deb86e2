"""The recipes benchmark's judges, meter and baselines, on real models."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer

from gradients.bases.bases import SHIPPED
from gradients.datasets.images import as_row
from gradients.ml.diffusion_errors import row_seed
from gradients.ml.images import read_captioned
from gradients.tasks.diffusion.metric import measure as measure_pictures
from gradients.tasks.instruct.metric import measure
from gradients.tasks.jobs.measuring import Entrant, EntrantResult, MeasureJob
from scripts.benchmarks.recipes import diffusers_training, evaluator, picture_judge
from scripts.benchmarks.recipes.arms import Diffusers
from scripts.benchmarks.recipes.command import SHORT, append, read
from scripts.benchmarks.recipes.meter import PICTURE, READ, TOKENS_PER_SECOND, TRAINED, Meter
from scripts.benchmarks.recipes.rows import Picture
from scripts.benchmarks.recipes.run import Done, Run
from scripts.benchmarks.recipes.tasks import TASKS

ROOT = Path(__file__).parents[2]
NANO, NANO_IMAGE = SHIPPED / "nano-lm", SHIPPED / "nano-image"
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


def pictures() -> list[Picture]:
    """A red, a green and a blue square on white."""
    found = []
    for colour in ("red", "green", "blue"):
        image = Image.new("RGB", (32, 32), "white")
        image.paste(colour, (8, 8, 24, 24))
        found.append(Picture(f"{colour} square", as_row(image), colour))
    return found


def test_the_judge_of_pictures_agrees_with_the_denoising_loss_of_diffusion_tasks(tmp_path: Path) -> None:
    rows, lora = pictures(), tmp_path / "lora"
    loud = Diffusers(batch_rows=2, steps=3, learning_rate=0.05)
    diffusers_training.train(loud, rows, NANO_IMAGE, lora, seed=3)
    held_out = tmp_path / "held-out.jsonl"
    held_out.write_text("".join(json.dumps(row.as_row()) + "\n" for row in rows), encoding="utf-8")
    job = MeasureJob(
        base_folder=NANO_IMAGE,
        held_out_file=held_out,
        parameters={"resolution": 32, "seeds": 1, "steps": 2, "strengths": [0.5], "guidance": 1.0},
        entrants=(Entrant(id="base"), Entrant(id="lora", folder=lora)),
        results_folder=tmp_path,
        seed=5,
    )
    measure_pictures(job.model_dump(mode="json"), lambda _: None)
    seeds = [row_seed(job.seed, image) for image in read_captioned(held_out).images]
    found = []
    for entrant in job.entrants:
        theirs = EntrantResult.model_validate_json((tmp_path / f"{entrant.id}.json").read_bytes())
        ours = picture_judge.losses(picture_judge.load(NANO_IMAGE, entrant.folder), rows, seeds=seeds)
        assert theirs.extras["denoising_loss"] == pytest.approx(sum(ours) / len(ours), abs=1e-5)
        found.append(ours)
    assert found[0] != pytest.approx(found[1], abs=1e-3)  # the LoRA does something


def test_a_trained_picture_costs_three_times_one_that_is_looked_at_and_captions_nothing(meter: Meter) -> None:
    meter.of_pictures = True
    pipeline = picture_judge.load(NANO_IMAGE)
    latents, timesteps = torch.zeros(2, 4, 16, 16), torch.tensor([10, 500])
    with torch.no_grad():
        captions = picture_judge.states(pipeline, ["one", "two"])
        pipeline.unet.train()(latents, timesteps, captions)
    assert (meter.units, meter.trained_tokens) == (2 * PICTURE * READ, 0)
    pipeline.unet(latents, timesteps, captions).sample.sum().backward()
    assert (meter.units, meter.trained_tokens) == (2 * PICTURE * (READ + TRAINED), 2 * PICTURE)


def test_every_picture_is_seen_once_before_any_is_seen_again() -> None:
    batches = diffusers_training.batches(5, 3)
    seen = torch.cat([next(batches) for _ in range(5)]).tolist()
    assert [sorted(seen[first : first + 5]) for first in (0, 5, 10)] == [list(range(5))] * 3


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


def test_a_report_as_it_is_runs_nothing_and_tells_of_what_stands_in_the_file(tmp_path: Path) -> None:
    file, digest = tmp_path / "runs.jsonl", TASKS["kinship"].parts(SHORT).digest
    for arm in ("base", "planner"):
        each = done(arm)
        append(file, each.model_copy(update={"run": each.run.model_copy(update={"data": digest, "seconds": 60.0})}))
    before = file.read_bytes()
    command = [sys.executable, "-m", "scripts.benchmarks", "recipes", "--short", "--as-is", "--seeds", "1"]
    command += ["--tasks", "kinship", "json-extraction", "--runs", str(file)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600).stdout
    assert "| 1 | nano-lm: kinship | reasoning | 1.5 | 1.5 |" in said
    assert "json-extraction" not in said
    assert "0 of 2 runs failed" in said
    assert file.read_bytes() == before


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
