"""How many pictures go through a denoiser at once on which GPU, and the tables of it in the READMEs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gradients.config import shipped_configs
from gradients.tasks.footprint import GIB, Shape, Way
from gradients.tasks.jobs.training import TrainingPlan
from gradients.tasks.picture_footprint import (
    FLUX,
    SD3_MEDIUM,
    SD15,
    SDXL,
    Joint,
    Pipeline,
    Unet,
    picture_footprint,
    pipeline_in,
    size_in,
    smallest_gpu_for,
)
from miner.fitting import Fitted, Known, fitted_plan
from miner.plan import read_recipe
from miner.plan_text import AskedTask, as_json, as_text, memory_of

TOP = Path(__file__).parents[3]
READMES = (TOP / "miner" / "README.md", TOP / "gradients" / "tasks" / "diffusion" / "README.md")
RECIPE = read_recipe(shipped_configs() / "recipes" / "lora-tuned.toml")
PIPELINES = {"SD 1.5": SD15, "SDXL": SDXL, "SD3-medium": SD3_MEDIUM, "Flux": FLUX}


def planned(shape: Pipeline, gpu: str, known: Known = Known()) -> Fitted:  # noqa: B008 (frozen)
    return fitted_plan(RECIPE, kind="diffusion", shape=shape, memory=memory_of(gpu), known=known)


@pytest.mark.parametrize(
    ("shape", "kept", "again"),
    [(SD15, 1.41, 0.35), (SDXL, 9.02, 0.99), (SD3_MEDIUM, 8.49, 0.87), (FLUX, 42.4, 2.86)],
    ids=list(PIPELINES),
)
def test_a_picture_takes_what_was_counted_on_the_real_denoisers(shape: Pipeline, kept: float, again: float) -> None:
    """GiB of one more picture at the most in a step, counted at full size on the meta device (tests/ml/test_picture_footprints.py)."""
    for checkpointing, counted in ((False, kept), (True, again)):
        taken = picture_footprint(shape, Way("lora", 32, checkpointing=checkpointing), gpu_bytes=24 * GIB)
        assert taken.by_token / GIB == pytest.approx(counted, rel=0.2)


def test_the_smallest_gpu_holds_one_picture_with_blocks_computed_again() -> None:
    """SD3's weights alone, in two bytes, take 14 GiB and Flux's 31."""
    assert [smallest_gpu_for(each, pixels=None) for each in (SD15, SDXL, SD3_MEDIUM, FLUX)] == [8, 12, 24, 48]
    huge = replace(FLUX, parameters=10 * FLUX.parameters)
    assert smallest_gpu_for(huge, pixels=None) is None


def test_weights_are_wide_where_there_is_room_and_then_have_a_narrow_copy_for_products() -> None:
    small, large = (picture_footprint(SDXL, Way("lora", 32), gpu_bytes=gpu * GIB) for gpu in (24, 80))
    assert (small.weights, small.copies) == (2 * SDXL.parameters, 0)
    assert (large.weights, large.copies) == (4 * SDXL.parameters, 2 * SDXL.learning)
    assert picture_footprint(SDXL, Way("lora", 32), gpu_bytes=None).copies == 0


def test_encoding_a_picture_has_room_too() -> None:
    """At 2,048 pixels the autoencoder takes more than a step on one picture of a small denoiser whose blocks are computed again."""
    way = Way("lora", 8, checkpointing=True)
    tiny = Pipeline(10**7, 10**7, Unet((32, 64), 1, (0, 1), 64), 2_048)
    taken = picture_footprint(tiny, way, gpu_bytes=80 * GIB)
    assert taken.total(1) - taken.weights - taken.trained > 2_600 * 2_048**2


def test_the_pictures_of_a_task_have_its_own_resolution() -> None:
    unknown, small = planned(SDXL, "80"), planned(SDXL, "80", Known({"resolution": 512}))
    assert (unknown.plan.micro_batch_rows or 0) < (small.plan.micro_batch_rows or 0) == 8
    at = [picture_footprint(SDXL, Way("lora", 8), gpu_bytes=None, pixels=side).by_token for side in (512, 1_024, None)]
    assert at[1] == pytest.approx(4 * at[0])
    assert at[1] == at[2]


def test_less_memory_means_fewer_pictures_at_once_and_then_blocks_that_are_computed_again() -> None:
    seen = [planned(SD15, gpu).plan for gpu in ("24", "12", "4")]
    assert [(plan.gradient_checkpointing, plan.micro_batch_rows) for plan in seen] == [
        (False, 8),
        (False, 3),
        (True, 2),
    ]
    none = planned(FLUX, "24")
    assert not none.fits
    assert none.fit is not None
    assert "GiB needed for one picture" in none.fit.reasons[0]
    assert none.needed_bytes > none.there_bytes


def test_a_plan_for_pictures_that_ran_out_of_memory_is_followed_by_the_next_that_takes_less() -> None:
    first, second, third = (planned(SDXL, "80", Known(lowered=times)) for times in range(3))
    assert [each.plan.gradient_checkpointing for each in (first, second)] == [False, True]
    assert (first.fits, second.fits, third.fits) == (True, True, False)
    single = planned(SDXL, "80", Known(single_rows=True))
    assert (first.single_rows, single.single_rows, single.plan.micro_batch_rows) == (False, True, 1)


def test_a_recipe_may_ask_for_fewer_pictures() -> None:
    few = RECIPE.model_copy(update={"plan": {**RECIPE.plan, "micro_batch_rows": 2}})
    found = fitted_plan(few, kind="diffusion", shape=SD15, memory=memory_of("80"))
    assert found.plan.micro_batch_rows == 2
    assert TrainingPlan.model_validate(found.plan.model_dump()) == found.plan


def test_a_shape_comes_from_the_pipelines_files(tmp_path: Path) -> None:
    assert isinstance(size_in(tmp_path, 10**9), Shape)
    for folder, config in {
        "vae": {"block_out_channels": [1, 1, 1, 1]},
        "transformer": {
            "_class_name": "SD3Transformer2DModel",
            "num_layers": 24,
            "num_attention_heads": 24,
            "attention_head_dim": 64,
            "sample_size": 128,
        },
        "text_encoder": {},
    }.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(config))
        (tmp_path / folder / "model.safetensors").write_bytes(b"0" * {"vae": 10, "transformer": 60}.get(folder, 30))
    assert size_in(tmp_path, 1_000) == Pipeline(1_000, 600, Joint(24, 0, 1_536, 333), 1_024)
    shipped = pipeline_in(TOP / "gradients" / "assets" / "models" / "nano-image", 4_000_000)
    assert shipped is not None
    assert (shipped.denoiser, shipped.pixels, shipped.scale) == (Unet((32, 64, 128), 1, (0, 1, 1), 64), 32, 2)


@pytest.mark.parametrize("config", ["{}", "[]", "{", '{"_class_name": "PixArtTransformer2DModel"}', "null"])
def test_a_denoiser_that_nobody_knows_is_counted_by_its_weights(config: str, tmp_path: Path) -> None:
    for folder, text in {"vae": '{"block_out_channels": [1]}', "unet": config}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(text)
    found = fitted_plan(RECIPE, kind="diffusion", shape=size_in(tmp_path, 10**9), memory=memory_of("24"))
    assert found.fits
    assert (found.fit, found.plan.micro_batch_rows) == (None, None)


def test_a_plan_for_pictures_is_shown() -> None:
    task, memory, found = AskedTask(type="diffusion", parameters=3.5e9), memory_of("24"), planned(SDXL, "24")
    told = "\n".join(as_text(task, SDXL, found, memory, spread=None, pace=None))
    assert "MiB a picture" in told
    assert "micro_batch_rows" in told
    assert "micro_batch_tokens" not in told
    assert as_json(task, SDXL, found, memory, spread=None, pace=None)["fits"]


def table() -> list[str]:
    """The rows of the READMEs' table."""
    rows = []
    for name, shape in PIPELINES.items():
        cells = []
        for gpu in ("24", "80"):
            found = planned(shape, gpu)
            needed = f"{found.needed_bytes / GIB:.0f} GiB"
            again = ", blocks again" if found.plan.gradient_checkpointing else ""
            told = f"{found.plan.micro_batch_rows} at once{again}, {needed}"
            cells.append(told if found.fits else f"no: {needed} for one")
        rows.append(f"| {name}, {shape.pixels} px | {' | '.join(cells)} |")
    return rows


@pytest.mark.parametrize("readme", READMES, ids=lambda file: str(file.parent.name))
def test_the_table_in_the_readmes_is_what_comes_out(readme: Path) -> None:
    said = readme.read_text(encoding="utf-8")
    assert [row for row in table() if row not in said] == []
