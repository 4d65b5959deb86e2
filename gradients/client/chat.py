"""Talking to a task's base model and fine-tunes of it side by side, in a worker process on this machine."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

from gradients.client.delivery import base_behind
from gradients.client.shelf import ShelvedModel
from gradients.config import device_environment
from gradients.domain.json import JsonObject
from gradients.execution.job import Job
from gradients.execution.process import ProcessExecutor
from gradients.tasks.registry import task_type

BASE = "base"
ANSWER_SECONDS = 600.0  # of each model
THREADS = 2


@dataclass(frozen=True, slots=True)
class Conversation:
    """Base and fine-tunes of one task, ready to answer."""

    function: str
    base_folder: Path
    models: Mapping[str, Path]  # folders by name
    max_new_tokens: int
    temperature: float

    @classmethod
    def with_models(cls, models: Mapping[str, ShelvedModel], *, max_new_tokens: int, temperature: float) -> Self:
        """A conversation with models of one task, by the names that they are to have; their base is looked up on this machine."""
        one = next(iter(models.values()))
        return cls(
            function=task_type(one.card.type).generate,
            base_folder=base_behind(one).folder,
            models={name: model.folder for name, model in models.items()},
            max_new_tokens=max_new_tokens,
            temperature=temperature,
        )

    def ask(self, prompt: str) -> Mapping[str, str]:
        """The answers of "base" and of each model to one prompt."""
        arguments: JsonObject = {
            "base_folder": str(self.base_folder),
            "submissions": {name: str(folder) for name, folder in self.models.items()},
            "prompts": [prompt],
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "seed": 0,
        }
        with tempfile.TemporaryDirectory(prefix="gradients-ask-") as folder:
            job = Job(
                self.function,
                arguments,
                Path(folder),
                deadline_seconds=ANSWER_SECONDS * (1 + len(self.models)),
                threads=THREADS,
            )
            result = asyncio.run(ProcessExecutor(environment=device_environment()).run(job, report=lambda _: None))
        [answer] = cast(list[Mapping[str, str]], result["answers"])
        return {who: answer[who] for who in (BASE, *self.models)}
