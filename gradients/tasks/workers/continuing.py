"""The base of a task that continues another: the old base with the winner's weights in it."""

from __future__ import annotations

from collections.abc import Callable

from gradients.domain.json import JsonObject
from gradients.ml.continuing import write_image_base, write_language_base
from gradients.tasks.jobs.models import ContinueJob


def make_base(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Leave the new base in the job's target; {}."""
    job = ContinueJob.model_validate(arguments)
    job.target.mkdir(parents=True, exist_ok=True)
    write = write_image_base if job.family == "image" else write_language_base
    write(job.base_folder, job.submission, job.target)
    return {}
