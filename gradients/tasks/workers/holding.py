"""Loads a base for the jobs that will run in copies of this process."""

from __future__ import annotations

from collections.abc import Callable

from gradients.domain.json import JsonObject
from gradients.ml.base_model import hold_base
from gradients.tasks.jobs.measuring import HoldJob


def hold(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a HoldJob. Where there is a GPU the base stays as it is stored: the copies bring it there, in the precision that fits."""
    job = HoldJob.model_validate(arguments)
    if job.family == "image":
        from gradients.ml.pipelines import hold_image_base

        hold_image_base(job.base_folder, in_stored_precision=job.on_gpu)
    else:
        hold_base(job.base_folder, in_stored_precision=job.on_gpu)
    return {}
