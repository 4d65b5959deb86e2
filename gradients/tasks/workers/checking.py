"""Whether a validator could measure a repo: the same reading of it, with no rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from gradients.domain.json import JsonObject
from gradients.ml.base_model import load_base
from gradients.ml.device import choose_device
from gradients.ml.submission import applied
from gradients.tasks.jobs.models import RepoCheck, RepoCheckJob


def check(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """What of the base the repo changes. Raises SubmissionRejected as measuring would, and ModelUnknown for the base."""
    job = RepoCheckJob.model_validate(arguments)
    if job.family == "image":
        from gradients.ml.diffusion_lora import lora_applied  # diffusers, which takes seconds to import
        from gradients.ml.pipelines import load_image_base

        with lora_applied(load_image_base(job.base_folder, choose_device()), job.repo_folder) as replaced:
            changed = len(replaced)
    else:
        with applied(load_base(job.base_folder, choose_device()).model, job.repo_folder) as replaced:
            changed = len(replaced)
    return cast(JsonObject, RepoCheck(changed=changed).model_dump(mode="json"))
