"""How alike the error of redrawing, by which diffusion tasks are paid, and the cheaper denoising loss rank the same submissions.

Twelve LoRAs of every quality are made for each of the two shipped image sets: three learning rates, looked at after 4, 8, 16 and 32 steps.
Both metrics see all of them twice, by two seeds; so each can be compared with the other, and with itself by other noise.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from gradients.bases.bases import SHIPPED
from gradients.localnet.demo import spec
from gradients.ml.adapters import LoraShape
from gradients.ml.device import choose_device
from gradients.ml.diffusion_errors import Redrawing, denoising_loss, redraw, row_seed
from gradients.ml.diffusion_lora import add_lora, lora_applied, write_lora
from gradients.ml.diffusion_noise import encode_images, noise_of
from gradients.ml.diffusion_objective import DenoisingObjective, DenoisingSettings
from gradients.ml.images import Captioned, read_captioned
from gradients.ml.pipelines import ImageBase, load_image_base
from gradients.ml.trainee import Trainee
from gradients.tasks.preparation import prepare
from gradients.tasks.registry import task_type, validate_request
from scripts.benchmarks.timing import Figure, figure

BASE = SHIPPED / "nano-image"
RATES = (3e-4, 1e-3, 4e-3)
LOOKS = (4, 8, 16, 32)  # steps
SHAPE = LoraShape(rank=16, alpha=16.0)
SETTINGS = DenoisingSettings(snr_limit=5.0, caption_dropout=0.5, mirrored=False, text_encoders=False, rows_at_once=8)
HOW = Redrawing(strengths=(0.3, 0.6, 0.9), seeds=1, steps=10, guidance=1.0)
SEEDS = (1, 2)

Numbers = list[float]  # one a submission


class Seen(NamedTuple):
    """Both metrics of all submissions by one seed, and how long each took for one submission."""

    errors: Numbers
    losses: Numbers
    error_seconds: Numbers
    loss_seconds: Numbers


def ranks() -> Sequence[Figure]:
    """Spearman's correlation of the metrics' ranks, and their cost."""
    figures = []
    for number in range(2):
        asked = spec("diffusion", number=number, hours=0.1, base=None)
        name = Path(str(asked["dataset"])).parent.name
        with tempfile.TemporaryDirectory() as folder:
            request = validate_request(asked)
            data = prepare(task_type("diffusion"), request, salt=b"bench", folder=Path(folder) / "data")
            submissions = _submissions(read_captioned(data.train_file), Path(folder))
            first, second = (_seen(read_captioned(data.held_out_file), submissions, seed) for seed in SEEDS)
        across = [alike(first.errors, first.losses), alike(second.errors, second.losses)]
        figures += [
            figure(f"{name}: ranks of error and denoising loss", "rho", across),
            figure(f"{name}: ranks of error by two seeds", "rho", [alike(first.errors, second.errors)]),
            figure(f"{name}: ranks of denoising loss by two seeds", "rho", [alike(first.losses, second.losses)]),
            figure(f"{name}: error, each submission", "s", first.error_seconds + second.error_seconds),
            figure(f"{name}: denoising loss, each submission", "s", first.loss_seconds + second.loss_seconds),
        ]
    return figures


def alike(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Spearman's rank correlation of numbers without ties."""
    places = np.stack([np.argsort(np.argsort(numbers)) for numbers in (ours, theirs)])
    return float(np.asarray(np.corrcoef(places))[0, 1])


def _submissions(rows: Captioned, folder: Path) -> list[Path]:
    """The folders of all LoRAs."""
    made = []
    for rate in RATES:
        torch.manual_seed(0)
        base = load_image_base(BASE, choose_device())
        objective = DenoisingObjective(base, train=rows, validation=None, settings=SETTINGS, seed=1)
        add_lora(base, SHAPE, targets="all", text_encoders=False)
        trainee = Trainee(base.parts(), weight_decay=0.0, lora_plus_ratio=1.0)
        order = torch.Generator().manual_seed(2)
        for step in range(1, max(LOOKS) + 1):
            chosen = torch.randperm(len(rows.captions), generator=order)[: SETTINGS.rows_at_once]
            objective.backward(base.parts(), chosen.tolist())
            trainee.step(rate)
            if step in LOOKS:
                made.append(folder / f"{rate}-{step}")
                made[-1].mkdir()
                write_lora(base, made[-1], SHAPE)
    return made


def _seen(rows: Captioned, submissions: Sequence[Path], seed: int) -> Seen:
    base = load_image_base(BASE, choose_device())
    seen = Seen([], [], [], [])
    for folder in submissions:
        with lora_applied(base, folder):
            error, error_seconds = _timed(
                lambda: [
                    redraw(base, *row, how=HOW, seed=seed).error for row in zip(rows.images, rows.captions, strict=True)
                ]
            )
            loss, loss_seconds = _timed(lambda: _losses(base, rows, seed))
        for numbers, one in zip(seen, (error, loss, error_seconds, loss_seconds), strict=True):
            numbers.append(one)
    return seen


def _losses(base: ImageBase, rows: Captioned, seed: int) -> Numbers:
    with torch.inference_mode():
        captions, empty = (base.family.encode(base.pipeline, texts) for texts in (rows.captions, [""]))
    seeds = [row_seed(seed, image) for image in rows.images]
    return denoising_loss(
        base, noise_of(base), encode_images(base, rows.images), captions=captions, empty=empty, seeds=seeds
    )


def _timed(work: Callable[[], Numbers]) -> tuple[float, float]:
    """The mean, and seconds."""
    started = time.perf_counter()
    mean = float(np.mean(work()))
    return mean, time.perf_counter() - started
