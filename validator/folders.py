"""Where things lie in a validator's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gradients.tasks.jobs.measuring import CONTACT_SHEET


@dataclass(frozen=True, slots=True)
class Folders:
    """Paths below the validator's root; none of them is created here."""

    root: Path

    @property
    def blobs(self) -> Path:
        """The content-addressed store."""
        return self.root / "blobs"

    @property
    def api_key(self) -> Path:
        """The key that this machine's own commands use."""
        return self.root / "api.key"

    @property
    def sketch_secret(self) -> Path:
        """What the keys of fingerprints are derived from."""
        return self.root / "sketch.secret"

    @property
    def uploads(self) -> Path:
        """Data sets of customers."""
        return self.root / "uploads"

    @property
    def workers(self) -> Path:
        """Folders of workers that are kept from job to job; nothing in it outlives the validator."""
        return self.root / "workers"

    @property
    def tasks(self) -> Path:
        """A folder for each task."""
        return self.root / "tasks"

    def task(self, task_id: str) -> Path:
        """Everything about one task."""
        return self.tasks / task_id

    def prepared(self, task_id: str) -> Path:
        """Scratch space of preparation."""
        return self.task(task_id) / "prepared"

    def base(self, task_id: str) -> Path:
        """The base of a task that goes on from another."""
        return self.task(task_id) / "base"

    def submission(self, task_id: str, hotkey: str) -> Path:
        """A screened repo."""
        return self.task(task_id) / "submissions" / hotkey

    def results(self, task_id: str) -> Path:
        """One file per measured entrant."""
        return self.task(task_id) / "results"

    def contact_sheet(self, task_id: str) -> Path:
        """The picture that shows everybody's held-out images, of tasks whose metric leaves one."""
        return self.results(task_id) / CONTACT_SHEET

    def jobs(self, task_id: str) -> Path:
        """A folder for each worker of a task."""
        return self.task(task_id) / "jobs"

    def job(self, task_id: str, name: str) -> Path:
        """A worker's own folder."""
        return self.jobs(task_id) / name
