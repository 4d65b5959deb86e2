"""Models that were brought to this machine, by task, so that they can be tried without the validator."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from gradients.client.models import TaskSummary
from gradients.files.whole import whole_folder, write_text

CARD_FILE = "task.json"


class Card(BaseModel):
    """The file beside a model that says what it was made of."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    task_id: str
    type: str
    base: str


@dataclass(frozen=True, slots=True)
class ShelvedModel:
    """A model and what is needed to run it."""

    task_id: str
    type: str
    base: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder with one model per task."""

    root: Path

    @contextlib.contextmanager
    def adding(self, task: TaskSummary) -> Iterator[Path]:
        """An empty folder for the files of a task's model. They take their place when the body ends well, and are gone otherwise."""
        with whole_folder(self.folder(task)) as part:
            yield part
            card = Card(task_id=task.id, type=task.type, base=task.base)
            write_text(part / CARD_FILE, card.model_dump_json())

    def copy(self, task: TaskSummary, model: Path) -> Path:
        """A copy of a model that lies on this machine."""
        with self.adding(task) as folder:
            for file in model.iterdir():
                shutil.copyfile(file, folder / file.name)
        return self.folder(task)

    def folder(self, task: TaskSummary) -> Path:
        """Where a task's model lies, or would lie."""
        return self.root / task.id

    def find(self, task_id: str) -> ShelvedModel | None:
        """The task's model, or None when it was never brought here."""
        folder = self.root / task_id
        try:
            card = Card.model_validate_json((folder / CARD_FILE).read_bytes())
        except (OSError, ValidationError):
            return None
        return ShelvedModel(task_id=card.task_id, type=card.type, base=card.base, folder=folder)
