"""The metric of diffusion tasks: how far a held-out image is from what the model redraws from a noisy version of it (version 1).

The paper's: squared difference of colours over fixed strengths of noise, a quarter with the image's caption and three quarters with none.
The noise is drawn after the deadline. All entrants are measured on the same noise with one base in memory; so a score depends on nobody
else's. A cheaper denoising loss is noted beside it, and a sheet of pictures is left for people.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from PIL import Image

from gradients.domain.json import JsonObject
from gradients.ml.device import choose_device
from gradients.ml.diffusion_errors import (
    Redrawing,
    denoising_loss,
    images_at_once,
    lay_out_for_cpu,
    probe_predictions,
    redraw_all,
    row_seed,
)
from gradients.ml.diffusion_lora import lora_applied
from gradients.ml.diffusion_noise import encode_images, noise_of
from gradients.ml.images import Captioned, contact_sheet, picture, read_captioned, write_picture
from gradients.ml.pipelines import ImageBase, load_image_base
from gradients.tasks.diffusion.spec import DiffusionParameters
from gradients.tasks.jobs.measuring import CONTACT_SHEET, Entrant, MeasureJob
from gradients.tasks.workers.fingerprints import PROBE_ROWS, Fingerprints
from gradients.tasks.workers.measuring import Measured, RowsDone, blamed, measure_entrants

_SHOWN = 8  # rows of the sheet
_STRIP = ".strip"


def measure(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a MeasureJob and return where it was measured."""
    job = MeasureJob.model_validate(arguments)
    base = load_image_base(job.base_folder, choose_device())
    if base.device.name == "cpu":
        lay_out_for_cpu(base)
    rows = read_captioned(job.held_out_file)
    how = redrawing(base, DiffusionParameters.model_validate(job.parameters))
    with torch.inference_mode():
        latents = encode_images(base, rows.images)  # no submission changes what makes latents
    seeds = [row_seed(job.seed, image) for image in rows.images]
    probed = Captioned(rows.images[:PROBE_ROWS], rows.captions[:PROBE_ROWS])
    fingerprints = Fingerprints(
        base.parts(),
        job.sketch_key,
        lambda: probe_predictions(base, probed, seeds=seeds),
        about=repr((probed.captions, seeds)).encode(),
    )

    def measured(entrant: Entrant, progress: RowsDone) -> Measured:
        with lora_applied(base, entrant.folder) as replaced:
            errors, shown = _redrawn(base, rows, how, seed=job.seed, progress=progress)
            with torch.inference_mode():
                captions, empty = (base.family.encode(base.pipeline, texts) for texts in (rows.captions, [""]))
            at_once = images_at_once(rows.images, how)
            losses = denoising_loss(
                base, noise_of(base), latents, captions=captions, empty=empty, seeds=seeds, at_once=at_once
            )
            fingerprint = fingerprints.take(replaced)
        if not all(0 <= error <= 1 for error in errors):  # colours lie between 0 and 1; NaN is in no interval
            raise blamed(entrant, "A redrawn image holds values that are not colours", code="loss_out_of_bounds")
        # the sheet is put together of strips, since entrants may be measured on different days
        strip = Image.new("RGB", (shown[0].width, sum(one.height for one in shown[:_SHOWN])))
        for row, one in enumerate(shown[:_SHOWN]):
            strip.paste(one, (0, row * one.height))
        write_picture(job.results_folder / f"{entrant.id}{_STRIP}", strip)
        return Measured(errors, {"denoising_loss": statistics.fmean(losses)}, fingerprint)

    measure_entrants(job, measured, rows=len(rows.captions), report=report)
    return base.device.describe()


def finish(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Leave the sheet of all entrants that were measured."""
    job = MeasureJob.model_validate(arguments)
    _write_sheet(job, read_captioned(job.held_out_file))
    return {}


def redrawing(base: ImageBase, asked: DiffusionParameters) -> Redrawing:
    """How images are redrawn, with the family's usual guidance where the task names none."""
    guidance = base.family.guidance if asked.guidance is None else asked.guidance
    return Redrawing(asked.strengths, asked.seeds, asked.steps, guidance)


def _redrawn(
    base: ImageBase, rows: Captioned, how: Redrawing, *, seed: int, progress: RowsDone
) -> tuple[list[float], list[Image.Image]]:
    errors, shown = [], []
    for done, redrawn in enumerate(redraw_all(base, rows, how=how, seed=seed), start=1):
        errors.append(redrawn.error)
        shown.append(picture(redrawn.shown))
        progress(done)
    return errors, shown


def _write_sheet(job: MeasureJob, rows: Captioned) -> None:
    """Input, base, and every entrant of whom there are pictures."""
    size = rows.images.shape[-1]
    strips = {file.stem: file for file in sorted(job.results_folder.glob(f"*{_STRIP}"))}
    first = {"base": strips.pop("base")} if "base" in strips else {}
    columns = {"input": [picture(image) for image in rows.images[:_SHOWN]]}
    for name, file in {**first, **strips}.items():
        with Image.open(file, formats=("PNG",)) as strip:
            columns[name] = [strip.crop((0, top, size, top + size)) for top in range(0, strip.height, size)]
    write_picture(job.results_folder / CONTACT_SHEET, contact_sheet(columns))
