"""Models that were brought to this machine, by task, so that they can be tried without the validator."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
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

    @contextlib.contextmanager
    def adding(self, task: JsonObject) -> Iterator[Path]:
        """An empty folder for the files of a task's model. They take their place when the body ends well, and are gone otherwise."""
        part = self.root / f".{task['id']}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            yield part
            card = {"task_id": task["id"], "type": task["type"], "base": task["base"]}
            (part / CARD).write_text(json.dumps(card), encoding="utf-8")
            shutil.rmtree(self.folder(task), ignore_errors=True)
            part.replace(self.folder(task))
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def copy(self, task: JsonObject, model: Path) -> Path:
        """A copy of a model that lies on this machine."""
        with self.adding(task) as folder:
            for file in model.iterdir():
                shutil.copyfile(file, folder / file.name)
        return self.folder(task)

    def folder(self, task: JsonObject) -> Path:
        """Where a task's model lies, or would lie."""
        return self.root / str(task["id"])

    def find(self, task_id: str) -> ShelvedModel | None:
        """The task's model, or None when it was never brought here."""
        folder = self.root / task_id
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return ShelvedModel(task_id=card["task_id"], type=card["type"], base=card["base"], folder=folder)
