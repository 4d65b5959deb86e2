"""Models that were brought to this machine, by task and miner, so that they can be used without the validator."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from gradients.client.models import TaskDetails
from gradients.errors import SetupError
from gradients.files.whole import whole_folder, write_text

CARD_FILE = "task.json"


class Card(BaseModel):
    """The file beside a model that says for programs what it was made of; README.md says it for people."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    task_id: str
    type: str
    base: str
    base_digest: str | None = None  # sha256 over the files of the base that it was measured on
    hotkey: str
    best: bool  # whether it won the task


@dataclass(frozen=True, slots=True)
class ShelvedModel:
    """A model and what is needed to run it."""

    card: Card
    folder: Path

    @property
    def name(self) -> str:
        """By which it is known to people and programs that serve it."""
        return self.folder.name


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder with a folder for each model."""

    root: Path

    @contextlib.contextmanager
    def adding(self, task: TaskDetails, hotkey: str) -> Iterator[Path]:
        """An empty folder for the files of a miner's model. They take their place when the body ends well, and are gone otherwise."""
        with whole_folder(self.folder(task.id, hotkey)) as part:
            yield part
            card = Card(
                task_id=task.id,
                type=task.type,
                base=task.base,
                base_digest=task.data.base_digest if task.data else None,
                hotkey=hotkey,
                best=task.best is not None and task.best.hotkey == hotkey,
            )
            write_text(part / CARD_FILE, card.model_dump_json())

    def folder(self, task_id: str, hotkey: str) -> Path:
        """Where a model lies, or would lie: no two models of a task have one place."""
        return self.root / f"{task_id}-{hotkey}"

    def find(self, task_id: str, hotkey: str | None = None) -> ShelvedModel | None:
        """A miner's model, the winner's by default; None when it was never brought here."""
        for file in sorted(self.root.glob(f"*/{CARD_FILE}")):
            try:
                card = Card.model_validate_json(file.read_bytes())
            except (OSError, ValidationError):
                continue
            if card.task_id == task_id and (card.best if hotkey is None else card.hotkey == hotkey):
                return ShelvedModel(card, file.parent)
        return None

    def get(self, task_id: str, hotkey: str | None = None) -> ShelvedModel:
        """As `find`. Raises SetupError when it was never brought here."""
        if (model := self.find(task_id, hotkey)) is None:
            whose = f"the model of {hotkey}" if hotkey else "the best model"
            raise SetupError(f"{self.root} does not hold {whose} of {task_id}", fix="Get it: gradients task download")
        return model
