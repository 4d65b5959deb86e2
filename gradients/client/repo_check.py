"""What a validator would say of a repo before it measures it: the same screening, and the same reading in a worker process."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradients.bases.bases import BaseInfo
from gradients.errors import SubmissionRejected
from gradients.execution.job import Executor, Job
from gradients.repo.manifest import Manifest, TrainingSummary, describe_folder
from gradients.repo.screening import screen_folder, screen_manifest
from gradients.tasks.jobs.models import CHECK_REPO, RepoCheck, RepoCheckJob

CHECK_SECONDS = 3600.0  # a large base takes long to load


@dataclass(frozen=True, slots=True)
class Verdict:
    """A repo that can be measured."""

    kind: Literal["adapter", "full"]
    files: int
    size_bytes: int
    changed: int  # weights of the base that it replaces


async def check_folder(folder: Path, base: BaseInfo, executor: Executor) -> Verdict:
    """Check any folder as the repo of a miner. Raises SubmissionRejected with the rule that it breaks."""
    manifest = await asyncio.to_thread(_described, folder, base)
    return await check_repo(folder, manifest, base, executor)


def _described(folder: Path, base: BaseInfo) -> Manifest:
    if not folder.is_dir():
        raise SubmissionRejected(f"There is no folder {folder}", code="file_missing")
    kind: Literal["adapter", "full"] = "full" if (folder / "config.json").is_file() else "adapter"
    return describe_folder(
        folder, task_id="check", hotkey="check", base_digest=base.digest, kind=kind, training=TrainingSummary()
    )


async def check_repo(
    folder: Path, manifest: Manifest, base: BaseInfo, executor: Executor, *, seconds: float = CHECK_SECONDS
) -> Verdict:
    """Check a repo that has its manifest. Raises as `check_folder` does, and JobFailed when it took longer than `seconds`."""
    screen_manifest(manifest, base)
    screen_folder(folder, manifest, base)
    asked = RepoCheckJob(base_folder=base.folder, repo_folder=folder, family=base.family)
    with tempfile.TemporaryDirectory(prefix="gradients-check-") as place:
        job = Job(
            CHECK_REPO,
            asked.model_dump(mode="json"),
            Path(place) / "job",
            deadline_seconds=seconds,
            reads=(base.folder, folder),
            accelerator=True,
        )
        found = RepoCheck.model_validate(await executor.run(job, report=lambda _: None))
    return Verdict(manifest.kind, len(manifest.files), manifest.size_bytes, found.changed)
