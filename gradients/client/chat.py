"""Talking to a task's base model and its winner side by side, in a worker process on this machine."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

from gradients.client.delivery import measured_base
from gradients.client.shelf import ShelvedModel
from gradients.config import device_environment
from gradients.domain.json import JsonObject
from gradients.execution.job import Job
from gradients.execution.process import ProcessExecutor
from gradients.tasks.registry import task_type

ANSWER_SECONDS = 600.0
THREADS = 2


@dataclass(frozen=True, slots=True)
class Conversation:
    """Base and winner of one task, ready to answer."""

    function: str
    base_folder: Path
    model_folder: Path
    max_new_tokens: int
    temperature: float

    @classmethod
    def with_model(cls, model: ShelvedModel, *, max_new_tokens: int, temperature: float) -> Self:
        """A conversation with a model of the shelf; its base is looked up on this machine."""
        return cls(
            function=task_type(model.card.type).generate,
            base_folder=measured_base(model.card.base, model.card.base_digest).folder,
            model_folder=model.folder,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
        )

    def ask(self, prompt: str) -> Mapping[str, str]:
        """The answers of "base" and "winner" to one prompt."""
        arguments: JsonObject = {
            "base_folder": str(self.base_folder),
            "submission_folder": str(self.model_folder),
            "prompts": [prompt],
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "seed": 0,
        }
        with tempfile.TemporaryDirectory(prefix="gradients-ask-") as folder:
            job = Job(self.function, arguments, Path(folder), deadline_seconds=ANSWER_SECONDS, threads=THREADS)
            result = asyncio.run(ProcessExecutor(environment=device_environment()).run(job, report=lambda _: None))
        [answer] = cast(list[Mapping[str, str]], result["answers"])
        return {"base": answer["base"], "winner": answer["submission"]}
