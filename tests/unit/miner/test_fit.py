"""What training takes of memory, which way fits, and the table of it in the miner's README."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.config import shipped_configs
from gradients.tasks.base import TrainingLoad
from gradients.tasks.footprint import KNOWN, USABLE, Optimiser, Shape, Way, footprint, like_others, shape_in
from gradients.tasks.jobs.training import TrainingPlan
from miner.engines import Speed
from miner.fit import fit
from miner.fitting import LORA_RATE, Known, fitted_plan, longest_row
from miner.memory import GIB, Memory
from miner.plan import plan_training, read_recipe
from miner.plan_text import CORE_FLOPS, GPUS, AskedTask, as_json, as_text, gpus_in, memory_of, pace_of, read_task

RECIPES = shipped_configs() / "recipes"
README = Path(__file__).parents[3] / "miner" / "README.md"
H100_BYTES = 85.5e9
SIZES = {"0.135B": 0.135e9, "1.5B": 1.5e9, "7B": 7e9, "32B": 32e9, "70B": 70e9}
PLACES = {"24 GB": memory_of("24"), "80 GB": memory_of("80"), "8 x 80 GB": replace(memory_of("80"), devices=8)}
OPTIMISERS: tuple[Optimiser, Optimiser] = ("adamw", "adamw_8bit")


@pytest.mark.parametrize(
    ("shape", "tokens", "measured"),
    [
        (Shape(7_241_732_096, 32, 4_096, 14_336, 32_000), 16_384, 116e9),
        (Shape(8_030_261_248, 32, 4_096, 14_336, 128_256), 4_185, 30e9),
        (Shape(7_615_616_512, 28, 3_584, 18_944, 152_064), 3_530, 24e9),
        (Shape(1_100_048_384, 22, 2_048, 5_632, 32_000), 16_384, 35e9),
    ],
    ids=["Mistral-7B", "Llama-3.1-8B", "Qwen2.5-7B", "TinyLlama"],
)
def test_what_layers_of_real_models_keep_is_what_is_reckoned_with(shape: Shape, tokens: int, measured: float) -> None:
    taken = footprint(shape, Way("lora", 32), gpu_bytes=int(H100_BYTES))
    assert tokens * taken.per_token == pytest.approx(measured, rel=0.05)


def test_a_frozen_base_lies_as_it_is_multiplied_or_in_4_bits() -> None:
    base = Shape(7_248_023_552, 32, 4_096, 14_336, 32_768)
    layers, rest = base.multiplied, base.looked_up
    assert layers + rest == base.parameters
    plain, packed = (footprint(base, Way("lora", 16, load_in_4bit=bits), gpu_bytes=80 * GIB) for bits in (False, True))
    assert plain.weights == 2 * layers + 4 * rest  # embeddings and head are float32 where all of it would fit so
    assert packed.weights == pytest.approx(0.516 * layers + 2 * rest, rel=1e-3)
    assert packed.copies == 2 * 4_096 * 14_336  # one matrix at a time is unpacked
    assert packed.by_token == plain.by_token


def test_a_full_fine_tune_takes_16_bytes_a_weight_or_10_with_small_moments() -> None:
    base = Shape(1_543_714_304, 28, 1_536, 8_960, 151_936)
    plain, small = (footprint(base, Way("full", 16, optimiser=name), gpu_bytes=80 * GIB) for name in OPTIMISERS)
    assert plain.weights + plain.trained == 16 * base.parameters
    assert (small.weights + small.trained) / base.parameters == pytest.approx(10.03, rel=1e-3)
    assert plain.copies == small.copies == 2 * base.multiplied


def test_spread_over_8_each_holds_an_eighth_and_what_is_gathered() -> None:
    base = like_others(int(7e9))
    one, each = (footprint(base, Way("full", 16, devices=devices), gpu_bytes=80 * GIB) for devices in (1, 8))
    assert each.weights == one.weights // 8
    assert each.trained == one.trained // 8
    assert 2 * base.multiplied // base.layers * 2 < each.copies < one.copies
    assert each.by_token == one.by_token


SIZES_AND_PLACES = st.tuples(st.sampled_from(KNOWN), st.integers(1, 400), st.booleans(), st.integers(16, 8192))


@given(
    SIZES_AND_PLACES,
    st.sampled_from([1, 8]),
    st.booleans(),
    st.builds(
        Way, st.sampled_from(["lora", "full"]), st.just(32), st.booleans(), optimiser=st.sampled_from(OPTIMISERS)
    ),
)
def test_a_yes_can_be_kept(place: tuple[Shape, int, bool, int], devices: int, low_bits: bool, asked: Way) -> None:
    shape, gibibytes, on_gpu, row_tokens = place
    memory = Memory(gibibytes * GIB, is_gpu=on_gpu, devices=devices, low_bits=low_bits)
    found = fit(shape, memory, asked=asked, load=TrainingLoad(row_tokens))
    assert found.fits == (found.needed(row_tokens) <= found.there)
    assert found.there <= USABLE * memory.bytes
    assert found.reasons
    if found.fits:
        assert found.tokens >= row_tokens
        assert found.way.method in (asked.method, "lora")
        assert found.way.devices in (1, devices)
        assert found.way.checkpointing >= asked.checkpointing
        assert low_bits or not found.way.load_in_4bit
        more = fit(shape, replace(memory, bytes=2 * memory.bytes), asked=asked, load=TrainingLoad(row_tokens))
        assert more.fits


def tried(shape: Shape, gibibytes: int, asked: Way, *, devices: int = 1, low_bits: bool = True) -> Way:
    """The way that is found for rows of 2,048 tokens."""
    memory = Memory(gibibytes * GIB, is_gpu=True, devices=devices, low_bits=low_bits)
    found = fit(shape, memory, asked=asked, load=TrainingLoad(2_048))
    assert found.fits, found.reasons
    return found.way


def test_less_memory_costs_time_first_and_quality_last() -> None:
    base, full = like_others(int(1.5e9)), Way("full", 32)
    assert tried(base, 48, full) == full
    assert tried(base, 32, full) == Way("full", 32, checkpointing=True)
    assert tried(base, 24, full) == Way("full", 32, checkpointing=True, optimiser="adamw_8bit")
    assert tried(base, 18, full) == Way("lora", 32)
    assert tried(base, 12, full) == Way("lora", 32, checkpointing=True)
    assert tried(base, 8, full) == Way("lora", 32, checkpointing=True, load_in_4bit=True)
    assert tried(base, 24, full, low_bits=False) == Way("lora", 32)


def test_several_devices_are_used_before_quality_is_given_up() -> None:
    large, larger = like_others(int(7e9)), like_others(int(70e9))
    assert tried(large, 80, Way("full", 32)).method == "lora"
    assert tried(large, 80, Way("full", 32), devices=8) == Way("full", 32, devices=8)
    assert tried(larger, 80, Way("lora", 32)) == Way("lora", 32, checkpointing=True, load_in_4bit=True)
    assert tried(larger, 80, Way("lora", 32), devices=8) == Way("lora", 32, checkpointing=True, devices=8)


def test_what_a_recipe_asks_for_is_not_taken_back() -> None:
    base = like_others(int(1.5e9))
    assert tried(base, 80, Way("lora", 32, load_in_4bit=True)) == Way("lora", 32, load_in_4bit=True)
    assert tried(base, 80, Way("full", 32, checkpointing=True)) == Way("full", 32, checkpointing=True)
    assert tried(base, 80, Way("full", 32, optimiser="adamw_8bit")) == Way("full", 32, optimiser="adamw_8bit")


def test_small_steps_are_not_rounded_away() -> None:
    """A device that keeps weights in bfloat16 trains a LoRA on them: nine of ten steps of a full fine-tune would change nothing."""
    assert tried(like_others(int(9e9)), 85, Way("full", 32, optimiser="adamw_8bit")).method == "lora"


def test_experts_stay_as_they_are() -> None:
    config = {"hidden_size": 2_048, "num_hidden_layers": 48, "intermediate_size": 6_144, "vocab_size": 151_936}
    few = Memory(48 * GIB, is_gpu=True)
    for more, fits in (({}, True), ({"num_experts": 128}, False)):
        shape = Shape.of(config | more, int(30e9))
        assert fit(shape, few, asked=Way("lora", 16), load=TrainingLoad(2_048)).fits == fits


def test_what_does_not_fit_as_asked_is_trained_as_it_fits() -> None:
    recipe = read_recipe(RECIPES / "full-tuned.toml")
    small, large = like_others(int(1.5e9)), like_others(int(7e9))
    as_asked = fitted_plan(recipe, kind="instruct", shape=small, memory=memory_of("h100"))
    assert as_asked.fits
    assert as_asked.plan.method == "full"
    other = fitted_plan(recipe, kind="instruct", shape=large, memory=memory_of("h100"))
    asked = plan_training(recipe, task_type="instruct", base_parameters=large.parameters)
    assert other.fits
    assert (other.plan.method, asked.method) == ("lora", "full")
    assert other.plan.optimiser == "adamw"
    assert other.plan.learning_rate == pytest.approx(LORA_RATE * asked.learning_rate)
    tight = fitted_plan(recipe, kind="instruct", shape=large, memory=memory_of("rtx4090"))
    assert tight.plan.gradient_checkpointing
    packed = fitted_plan(recipe, kind="instruct", shape=like_others(int(70e9)), memory=memory_of("h100"))
    assert packed.fits
    assert packed.plan.load_in_4bit
    assert TrainingPlan.model_validate(packed.plan.model_dump()) == packed.plan
    none = fitted_plan(recipe, kind="instruct", shape=like_others(int(70e9)), memory=memory_of("rtx4090"))
    assert not none.fits
    assert none.needed_bytes > none.there_bytes


def test_each_type_says_what_its_trainer_has_in_memory() -> None:
    """The recipe reads rows of 2,048 tokens; a task may read less, and so may a base, and rows may be shorter."""
    recipe, shape = read_recipe(RECIPES / "full-tuned.toml"), like_others(int(1.5e9))

    def rows(kind: str, known: Known, shape: Shape = shape) -> int:
        return fitted_plan(recipe, kind=kind, shape=shape, memory=memory_of("h100"), known=known).row_tokens

    read: dict[str, Any] = {"max_tokens": 512}  # Any: JSON
    unknown = Known()
    assert [rows(kind, unknown) for kind in ("instruct", "chat", "rag", "dpo", "grpo")] == [2_048] * 3 + [4_096, 2_176]
    assert rows("instruct", Known(read)) == 512
    assert rows("instruct", Known({"max_tokens": 8_192})) == 2_048  # cut by the recipe
    assert rows("dpo", Known(read)) == 2 * 512  # both answers
    rewards = {"rewards": [{"kind": "length", "at_most": 9}], "max_new_tokens": 300}
    assert rows("grpo", Known(read | rewards)) == 512 + 300
    assert rows("instruct", unknown, replace(shape, context=1_024)) == 1_024
    assert rows("instruct", Known(read, longest_row=200)) == 200
    assert rows("dpo", Known(read, longest_row=200)) == 400


def test_what_a_type_holds_more_of_leaves_less_for_a_micro_batch() -> None:
    recipe, shape = read_recipe(RECIPES / "full-tuned.toml"), like_others(int(1.5e9))
    answers, rewards = (
        fitted_plan(recipe, kind=kind, shape=shape, memory=memory_of("48")) for kind in ("instruct", "grpo")
    )
    assert answers.fit is not None
    assert rewards.fit is not None
    assert answers.plan.method == "full"
    assert answers.fit.footprint.reference == 0
    assert rewards.plan.gradient_checkpointing > answers.plan.gradient_checkpointing
    assert rewards.fit.footprint.reference == 4 * shape.parameters
    assert rewards.fit.footprint.logits_per_token == 2 * answers.fit.footprint.logits_per_token
    lora = fitted_plan(read_recipe(RECIPES / "lora-tuned.toml"), kind="grpo", shape=shape, memory=memory_of("48"))
    assert lora.fit is not None
    assert lora.fit.footprint.reference == 0  # the adapter is switched off


def test_short_rows_are_not_computed_twice_for_nothing() -> None:
    """7 billion weights on 24 GB: rows of the recipe's 2,048 tokens need it, those of a task's own 512 do not."""
    recipe, shape = read_recipe(RECIPES / "lora-tuned.toml"), like_others(int(7e9))
    far, near = (
        fitted_plan(recipe, kind="instruct", shape=shape, memory=memory_of("24"), known=known)
        for known in (Known(), Known({"max_tokens": 512}))
    )
    assert (far.plan.gradient_checkpointing, near.plan.gradient_checkpointing) == (True, False)


def test_a_way_that_ran_out_of_memory_is_followed_by_the_next_that_takes_less() -> None:
    recipe, shape = read_recipe(RECIPES / "full-tuned.toml"), like_others(int(1.5e9))
    plans, lowered = list[TrainingPlan](), 0
    while (
        found := fitted_plan(recipe, kind="instruct", shape=shape, memory=memory_of("80"), known=Known(lowered=lowered))
    ).fits:
        plans.append(found.plan)
        lowered += 1
    ways = [(p.method, p.optimiser, p.gradient_checkpointing, p.load_in_4bit) for p in plans]
    assert ways == [
        ("full", "adamw", False, False),
        ("full", "adamw", True, False),
        ("full", "adamw_8bit", False, False),
        ("full", "adamw_8bit", True, False),
        ("lora", "adamw", False, False),
        ("lora", "adamw", True, False),
        ("lora", "adamw", True, True),
    ]
    assert plans[4].learning_rate == pytest.approx(LORA_RATE * plans[0].learning_rate)
    assert found.fit is not None
    assert "ran out of memory here" in " ".join(found.fit.reasons)


def test_a_micro_batch_can_be_as_small_as_it_gets() -> None:
    recipe, shape = read_recipe(RECIPES / "lora-tuned.toml"), like_others(int(1.5e9))
    whole, single = (
        fitted_plan(recipe, kind="dpo", shape=shape, memory=memory_of("80"), known=known)
        for known in (Known(), Known(single_rows=True))
    )
    assert (whole.single_rows, single.single_rows) == (False, True)
    assert single.plan.micro_batch_tokens == 4_096
    assert single.plan.model_copy(update={"micro_batch_tokens": whole.plan.micro_batch_tokens}) == whole.plan


def test_a_row_has_no_more_tokens_than_bytes(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt":"a"}\n{"prompt":"\u00fc\u00fc"}\n', encoding="utf-8")
    assert longest_row(file) == len('{"prompt":"üü"}\n'.encode()) + 128


def test_images_are_counted_by_their_weights() -> None:
    recipe = read_recipe(RECIPES / "lora-tuned.toml")
    found = fitted_plan(recipe, kind="diffusion", shape=like_others(10**9), memory=memory_of("h100"))
    assert found.fits
    assert found.fit is None
    assert found.plan.micro_batch_tokens is None


def test_a_shape_comes_from_the_config_or_from_models_of_its_size(tmp_path: Path) -> None:
    assert shape_in(tmp_path, 7 * 10**9) == like_others(7 * 10**9)
    config = {"hidden_size": 100, "num_hidden_layers": 3, "intermediate_size": 7, "vocab_size": 11}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert shape_in(tmp_path, 5) == Shape(5, 3, 100, 7, 11)
    (tmp_path / "config.json").write_text(json.dumps({"text_config": config, "vocab_size": 5}))
    assert shape_in(tmp_path, 5).vocabulary == 11
    (tmp_path / "config.json").write_text(json.dumps({"n_embd": 20, "n_layer": 2, "vocab_size": 9, "n_inner": None}))
    assert shape_in(tmp_path, 5) == Shape(5, 2, 20, 80, 9)


def table() -> list[str]:
    """The rows of the README's table: how each size is trained by the default recipe, where."""
    recipe = read_recipe(RECIPES / "lora-tuned.toml")
    rows = []
    for name, parameters in SIZES.items():
        cells = []
        for memory in PLACES.values():
            found = fitted_plan(recipe, kind="instruct", shape=like_others(int(parameters)), memory=memory)
            assert found.fit is not None
            way = found.fit.way
            needed = f"{found.needed_bytes / GIB:.0f} GiB"
            more = [
                "4 bits" if way.load_in_4bit else "",
                "layers again" if way.checkpointing else "",
                f"FSDP over {way.devices}" if way.devices > 1 else "",
            ]
            told = ", ".join(filter(None, (f"{found.fit.tokens:,} tokens", *more, needed)))
            cells.append(told if found.fits else f"no: {needed} for one row")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def test_the_table_in_the_readme_is_what_comes_out() -> None:
    said = README.read_text(encoding="utf-8")
    assert [row for row in table() if row not in said] == []


def test_gpus_are_known_by_name_number_or_size() -> None:
    one = Memory(GPUS["h100"].gibibytes * GIB, is_gpu=True)
    assert memory_of("80") == memory_of("h100") == one
    assert memory_of("H100:8") == memory_of("8x80") == replace(one, gpus=8)
    assert [gpus_in(named) for named in (None, "h100", "h100:8", "8x80", "2xh100")] == [1, 1, 8, 8, 2]


def test_of_several_gpus_a_plan_says_which_are_used_and_what_they_would_hold() -> None:
    recipe, task, shape = read_recipe(RECIPES / "lora-tuned.toml"), AskedTask(parameters=70e9), like_others(int(70e9))
    one = memory_of("8x80")
    alone, spread = (
        fitted_plan(recipe, kind="instruct", shape=shape, memory=memory)
        for memory in (one, replace(one, devices=gpus_in("8x80")))
    )
    pace = pace_of(task, shape, alone, one, gpu="8x80", cores=1, past=())
    told = "\n".join(as_text(task, shape, alone, one, spread=spread, pace=pace))
    assert "load_in_4bit            True" in told
    assert "GPUs      one of" in told
    assert "a LoRA of rank 32 with layers computed again: 73.0 GiB on each" in told
    assert "on each" not in "\n".join(as_text(task, shape, alone, one, spread=alone, pace=pace))
    said = as_json(task, shape, alone, one, spread=spread, pace=pace)["spread"]
    assert isinstance(said, dict)
    assert said["gpus"] == 8
    assert as_json(task, shape, alone, one, spread=alone, pace=pace)["spread"] is None  # nothing better


def test_the_time_is_that_of_the_gpu_or_the_cpu_that_was_named() -> None:
    """989 teraflops at 15 %, 6 operations a weight and token: an H100 trains 24,725 tokens of a billion weights a second."""
    recipe, shape = read_recipe(RECIPES / "lora-tuned.toml"), like_others(10**9)
    task = AskedTask(parameters=1e9, rows=1_000, tokens_per_row=100, hours=1)

    def told(gpu: str | None, *, kind: str = "instruct", past: tuple[Speed, ...] = ()) -> dict[str, Any]:
        memory = memory_of(gpu) if gpu else Memory(64 * GIB)
        asked = task.model_copy(update={"type": kind})
        fitted = fitted_plan(recipe, kind=kind, shape=shape, memory=memory)
        pace = pace_of(asked, shape, fitted, memory, gpu=gpu, cores=2, past=past)
        return dict(as_json(asked, shape, fitted, memory, spread=None, pace=pace))

    h100, l4 = told("h100"), told("l4")
    assert h100["tokens_per_second"] == pytest.approx(24_725)
    assert h100["epochs_in_time"] == pytest.approx(24_725 * 3600 / 100_000)
    assert l4["tokens_per_second"] == pytest.approx(24_725 * 121 / 989)
    assert told("h100", kind="dpo")["epochs_in_time"] == pytest.approx(
        h100["epochs_in_time"] / 1.4
    )  # more work a token
    assert "not named" in told("48")["speed_reason"]
    assert told("h100:4")["tokens_per_second"] == pytest.approx(4 * 24_725)
    cpu = told(None)
    assert cpu["tokens_per_second"] == pytest.approx(2 * CORE_FLOPS / 6e9)
    before = Speed(engine="ours", method="lora", parameters=2 * 10**9, tokens_per_second=70.0)
    assert told(None, past=(before,))["tokens_per_second"] == 70.0
    assert told("h100", past=(before,)) == h100  # which is another machine
    assert told("h100", kind="grpo")["epochs_in_time"] is None


def test_layers_that_are_computed_again_take_a_third_more_time() -> None:
    recipe, shape = read_recipe(RECIPES / "lora-tuned.toml"), like_others(int(7e9))
    fitted = fitted_plan(recipe, kind="instruct", shape=shape, memory=memory_of("24"))
    assert fitted.plan.gradient_checkpointing
    pace = pace_of(AskedTask(parameters=7e9), shape, fitted, memory_of("24"), gpu="rtx4090", cores=1, past=())
    assert pace is not None
    assert pace.tokens_per_second == pytest.approx(165e12 * 0.15 / (8 * 7e9))


def test_a_tasks_own_parameters_are_those_of_its_type(tmp_path: Path) -> None:
    file = tmp_path / "task.json"
    file.write_text('{"type": "dpo", "base": "tiny", "rows": 9, "hours": 1, "parameters": {"max_tokens": 99}}')
    assert read_task(file).own == {"max_tokens": 99}
    assert read_task(file, parameters=7e9).parameters == 7e9
    assert read_task(None, parameters=7e9).own is None
