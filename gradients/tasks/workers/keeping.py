"""Which train rows the reference trainers keep from training, so that others can measure on them too."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from gradients.domain.json import JsonObject
from gradients.files.whole import write_bytes
from gradients.ml.objective import split_validation
from gradients.tasks.jobs.models import KeepJob, Kept


def keep(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Do a KeepJob and return Kept."""
    job = KeepJob.model_validate(arguments)
    rows = [line for line in job.train_file.read_bytes().split(b"\n") if line.strip()]
    _, kept = split_validation(len(rows), fraction=job.fraction, seed=job.seed, most=job.most)
    write_bytes(job.kept_file, b"".join(rows[place] + b"\n" for place in kept))
    return cast(JsonObject, Kept(rows=len(kept), of=len(rows)).model_dump(mode="json"))
