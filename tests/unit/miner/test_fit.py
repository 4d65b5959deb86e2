"""What training takes of memory, which way fits, and the table of it in the miner's README."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.config import shipped_configs
from gradients.tasks.jobs import TrainingPlan
from miner.fit import USABLE, fit
from miner.fitting import LORA_RATE, fitted_plan, shape_in
from miner.footprint import KNOWN, Optimiser, Shape, Way, footprint, like_others
from miner.memory import GIB, Memory
from miner.plan import plan_training, read_recipe
from miner.plan_text import GPUS, AskedTask, as_json, as_text, gpus_in, memory_of

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
    found = fit(shape, memory, asked=asked, row_tokens=row_tokens)
    assert found.fits == (found.needed(row_tokens) <= found.there)
    assert found.there <= USABLE * memory.bytes
    assert found.reasons
    if found.fits:
        assert found.tokens >= row_tokens
        assert found.way.method in (asked.method, "lora")
        assert found.way.devices in (1, devices)
        assert found.way.checkpointing >= asked.checkpointing
        assert low_bits or not found.way.load_in_4bit
        more = fit(shape, replace(memory, bytes=2 * memory.bytes), asked=asked, row_tokens=row_tokens)
        assert more.fits


def tried(shape: Shape, gibibytes: int, asked: Way, *, devices: int = 1, low_bits: bool = True) -> Way:
    """The way that is found for rows of 2,048 tokens."""
    memory = Memory(gibibytes * GIB, is_gpu=True, devices=devices, low_bits=low_bits)
    found = fit(shape, memory, asked=asked, row_tokens=2_048)
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
        assert fit(shape, few, asked=Way("lora", 16), row_tokens=2_048).fits == fits


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
    one = Memory(GPUS["h100"] * GIB, is_gpu=True)
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
    told = "\n".join(as_text(task, shape, alone, one, spread=spread))
    assert "load_in_4bit            True" in told
    assert "GPUs      one of" in told
    assert "a LoRA of rank 32 with layers computed again: 73.0 GiB on each" in told
    assert "on each" not in "\n".join(as_text(task, shape, alone, one, spread=alone))
    said = as_json(task, shape, alone, one, spread=spread)["spread"]
    assert isinstance(said, dict)
    assert said["gpus"] == 8
    assert as_json(task, shape, alone, one, spread=alone)["spread"] is None  # nothing better
