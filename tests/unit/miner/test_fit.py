"""What training takes of memory, which way fits, and the table of it in the miner's README."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradients.config import shipped_configs
from miner.fit import USABLE, fit
from miner.fitting import LORA_RATE, fitted_plan, shape_in
from miner.footprint import KNOWN, Method, Shape, Way, footprint, like_others
from miner.memory import GIB, Memory
from miner.plan import plan_training, read_recipe
from miner.plan_text import GPUS, memory_of

RECIPES = shipped_configs() / "recipes"
README = Path(__file__).parents[3] / "miner" / "README.md"
H100_BYTES = 85.5e9
SIZES = {"0.135B": 0.135e9, "1.5B": 1.5e9, "7B": 7e9, "32B": 32e9, "70B": 70e9}
PLACES = {"24 GB": "24", "80 GB": "80", "8 x 80 GB": "80"}  # of several GPUs one is used


@pytest.mark.parametrize(
    ("shape", "gpu_bytes", "tokens", "measured"),
    [
        (Shape(7_241_732_096, 32, 4_096, 14_336, 32_000), H100_BYTES, 16_384, 157e9),
        (Shape(8_030_261_248, 32, 4_096, 14_336, 128_256), H100_BYTES, 4_185, 75e9),
        (Shape(7_615_616_512, 28, 3_584, 18_944, 152_064), H100_BYTES, 3_530, 67e9),
        (Shape(1_100_048_384, 22, 2_048, 5_632, 32_000), 25.7e9, 16_384, 41e9),
    ],
    ids=["Mistral-7B", "Llama-3.1-8B", "Qwen2.5-7B", "TinyLlama"],
)
def test_what_layers_of_real_models_keep_is_what_is_reckoned_with(
    shape: Shape, gpu_bytes: float, tokens: int, measured: float
) -> None:
    # the sums by layers that were measured, without logits
    taken = footprint(shape, Way("lora", 32), gpu_bytes=int(gpu_bytes))
    assert taken.standing + tokens * taken.per_token == pytest.approx(measured, rel=0.15)


@given(
    st.sampled_from(KNOWN), st.integers(1, 400), st.booleans(), st.sampled_from(["lora", "full"]), st.integers(16, 8192)
)
def test_a_yes_can_be_kept(shape: Shape, gibibytes: int, on_gpu: bool, method: Method, row_tokens: int) -> None:
    memory = Memory(gibibytes * GIB, is_gpu=on_gpu)
    found = fit(shape, memory, method=method, rank=32, row_tokens=row_tokens)
    assert found.fits == (found.needed(row_tokens) <= found.there)
    assert found.there <= USABLE * memory.bytes
    if found.fits:
        assert found.tokens >= row_tokens
        assert found.way.method in (method, "lora")
        more = fit(shape, Memory(2 * memory.bytes, is_gpu=on_gpu), method=method, rank=32, row_tokens=row_tokens)
        assert more.fits
    assert found.reasons


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
    assert other.plan.learning_rate == pytest.approx(LORA_RATE * asked.learning_rate)
    tight = fitted_plan(recipe, kind="instruct", shape=large, memory=memory_of("rtx4090"))
    assert tight.plan.gradient_checkpointing
    none = fitted_plan(recipe, kind="instruct", shape=like_others(int(70e9)), memory=memory_of("h100"))
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
        for gpu in PLACES.values():
            found = fitted_plan(recipe, kind="instruct", shape=like_others(int(parameters)), memory=memory_of(gpu))
            again = ", layers again" if found.plan.gradient_checkpointing else ""
            needed = f"{found.needed_bytes / GIB:.0f} GiB"
            cells.append(
                f"{found.plan.micro_batch_tokens:,} tokens{again}, {needed}"
                if found.fits
                else f"no: {needed} for one row"
            )
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return rows


def test_the_table_in_the_readme_is_what_comes_out() -> None:
    said = README.read_text(encoding="utf-8")
    assert [row for row in table() if row not in said] == []


def test_gpus_are_known_by_name_number_or_size() -> None:
    assert memory_of("H100:8") == memory_of("80") == Memory(GPUS["h100"] * GIB, is_gpu=True)
