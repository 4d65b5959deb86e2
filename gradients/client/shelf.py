"""Models that were brought to this machine, by task, so that they can be tried without the validator."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from gradients.domain.json import JsonObject

CARD = "task.json"


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

    def place(self, task: JsonObject) -> Path:
        """The folder for a task's model, with the card that says what it is; the model's files are put there by the caller."""
        folder = self.root / str(task["id"])
        folder.mkdir(parents=True, exist_ok=True)
        card = {"task_id": task["id"], "type": task["type"], "base": task["base"]}
        (folder / CARD).write_text(json.dumps(card), encoding="utf-8")
        return folder

    def copy(self, task: JsonObject, model: Path) -> Path:
        """A copy of a model that lies on this machine."""
        folder = self.place(task)
        for file in model.iterdir():
            shutil.copyfile(file, folder / file.name)
        return folder

    def find(self, task_id: str) -> ShelvedModel | None:
        """The task's model, or None when it was never brought here."""
        folder = self.root / task_id
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return ShelvedModel(task_id=card["task_id"], type=card["type"], base=card["base"], folder=folder)
