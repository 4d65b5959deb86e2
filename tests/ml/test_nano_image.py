"""The text-to-image model that ships: loads by diffusers alone, is what its record says, and draws in the manner that it was taught."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from gradients.bases.bases import SHIPPED, BaseModels

FOLDER = SHIPPED / "nano-image"
DATA = FOLDER.parents[1] / "data"
ROWS = DATA / "fluent-emoji/rows.jsonl"


@pytest.fixture(scope="module")
def pipeline() -> StableDiffusionPipeline:
    loaded = StableDiffusionPipeline.from_pretrained(FOLDER, dtype=torch.float32, local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    return loaded


def test_it_is_small_and_counted_as_its_record_says() -> None:
    record = json.loads((FOLDER / "training.json").read_text(encoding="utf-8"))
    assert BaseModels.default().resolve("nano-image").parameters == sum(record["parameters"].values()) < 5_000_000
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 10_000_000
    assert len(record["package"]["sha256"]) == 64


def test_it_draws_on_white_paper_something_that_is_not_white(pipeline: StableDiffusionPipeline) -> None:
    drawn = pipeline(
        ["red apple", "dog face", "tree"],
        height=32,
        width=32,
        num_inference_steps=12,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    corners, middles = drawn[:, :3, :3], drawn[:, 10:22, 10:22]
    assert corners.mean() > 0.85 > middles.mean()


def test_its_autoencoder_keeps_pictures_of_a_style_that_it_has_not_seen(pipeline: StableDiffusionPipeline) -> None:
    """Redrawn images cannot be closer than this; the metric of an untouched base is about 0.03."""
    rows = [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]
    images = torch.stack([_pixels(row["image"]) for row in rows])
    with torch.inference_mode():
        decoded = pipeline.vae.decode(pipeline.vae.encode(2 * images - 1).latent_dist.mode()).sample / 2 + 0.5
    assert float((decoded.clamp(0, 1) - images).square().mean()) < 0.006


@pytest.mark.parametrize("name", ["fluent-emoji", "ada-portraits"])
def test_the_captions_of_the_shipped_sets_are_read_to_their_ends(pipeline: StableDiffusionPipeline, name: str) -> None:
    captions = [json.loads(line)["caption"] for line in (DATA / name / "rows.jsonl").read_text("utf-8").splitlines()]
    lengths = [len(tokens) for tokens in pipeline.tokenizer(captions)["input_ids"]]
    assert max(lengths) <= pipeline.text_encoder.config.max_position_embeddings


def _pixels(text: str) -> torch.Tensor:
    """[3, height, width], 0 to 1."""
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255


def test_it_is_licensed() -> None:
    assert "Apache License" in (FOLDER / "LICENSE").read_text(encoding="utf-8")
    assert "Noto Emoji" in Path(FOLDER / "README.md").read_text(encoding="utf-8")
