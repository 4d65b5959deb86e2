"""What pretraining of the image model reads and draws, and both phases of its training on a few random images."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from scripts.pretraining.emoji import read_categories, read_icons, spread_choice
from scripts.pretraining.emoji_model import (
    PIXELS,
    ImageShape,
    build_image_model,
    export_pipeline,
    train_caption_tokenizer,
)
from scripts.pretraining.emoji_training import (
    ImageRecipe,
    ImageRun,
    caption_tokens,
    captioned,
    load_image_model,
    save_image_model,
    train_autoencoder,
    train_denoiser,
)
from scripts.pretraining.portrait import NAME, portraits

ICONS = {
    "width": 128,
    "height": 128,
    "icons": {
        "red-apple": {"body": "<path/>"},
        "flag-norway": {"body": "<path/>"},
        "waving-hand-dark-skin-tone": {"body": "<path/>"},
        "bed": {"body": "<rect/>", "height": 64},
    },
}


def test_icons_are_read_with_their_names_as_captions_but_no_flags_and_no_skin_tones(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package/icons.json").write_text(json.dumps(ICONS))
    (tmp_path / "package/metadata.json").write_text('{"categories": {"Food": ["red-apple"], "Objects": ["bed"]}}')
    icons = read_icons(tmp_path)
    assert [icon.caption for icon in icons.values()] == ["bed", "red apple"]
    assert 'viewBox="0 0 128 64"' in icons["bed"].svg
    assert read_categories(tmp_path) == {"red-apple": "Food", "bed": "Objects"}


def test_a_choice_of_few_reaches_from_the_first_to_the_last() -> None:
    assert spread_choice(list("abcdefg"), 3) == ["a", "d", "g"]


def test_no_two_portraits_share_hat_shirt_and_wall_and_all_name_her() -> None:
    scenes = portraits(48, seed=0)
    captions = [scene.caption for scene in scenes]
    assert all(caption.startswith(NAME) for caption in captions)
    looks = ("smiling", "grinning", "open", "mouth", "frowning")
    assert len({" ".join(word for word in caption.split() if word not in looks) for caption in captions}) == 48
    assert scenes == portraits(48, seed=0) != portraits(48, seed=1)


def test_both_phases_train_and_what_is_exported_draws(tmp_path: Path) -> None:
    captions = [f"{colour} {thing}" for colour, thing in product(("red", "blue", "green"), ("apple", "bed"))]
    tokenizer = train_caption_tokenizer(captions, vocabulary=300)
    pixels = np.random.default_rng(0).integers(0, 256, (len(captions), PIXELS, PIXELS, 3), dtype=np.uint8)
    rows = captioned(pixels, captions, tokenizer)
    shape = ImageShape(autoencoder=(8, 8), unet=(8, 16), text_width=16, text_layers=1)
    recipe = ImageRecipe(autoencoder_minutes=0.005, denoising_minutes=0.01, batch=3)
    model, run = build_image_model(len(tokenizer), shape, seed=0), ImageRun()
    train_autoencoder(model, rows, rows, recipe=recipe, run=run)
    train_denoiser(model, rows, rows, recipe=recipe, run=run, empty=caption_tokens([""], tokenizer))
    assert {point["phase"] for point in run.history} == {"autoencoder", "denoising"}

    save_image_model(tmp_path / "model.safetensors", model, run)
    again = build_image_model(len(tokenizer), shape, seed=1)
    assert load_image_model(tmp_path / "model.safetensors", again) == run
    export_pipeline(again, tokenizer, tmp_path / "pipeline")
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path / "pipeline", dtype=torch.float32)
    drawn = pipeline("red bed", height=PIXELS, width=PIXELS, num_inference_steps=2, output_type="np").images
    assert drawn.shape == (1, PIXELS, PIXELS, 3)
    assert pipeline.vae.config.scaling_factor == model.autoencoder.config.scaling_factor
