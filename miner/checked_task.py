"""What `gradients miner check` measures a model by: a task as a file tells it, and rows that training has not seen."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from gradients.axon.messages import Start
from gradients.errors import DatasetInvalid, SetupError
from gradients.files.digest import file_sha256
from gradients.files.whole import write_bytes
from gradients.tasks.registry import validate_request

FEWEST_ROWS = 2  # for an interval


class CheckedTask(BaseModel):
    """What of a task decides how its models are measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    base: str
    base_digest: str | None = None
    parameters: dict[str, JsonValue]
    hours: float
    train_sha256: str = ""  # of the rows that were trained on, where they are known
    seed: int = 0

    @classmethod
    def read(cls, file: Path) -> Self:
        """The task in a miner's record.json, in a start as it came, or in a spec as customers write one.

        Raises SetupError, and TaskInvalid for a spec that no validator would take.
        """
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            told = told.get("start", told)
            start = Start.model_validate(told) if "offer" in told else None
        except (OSError, ValueError, AttributeError, ValidationError) as error:
            raise SetupError(
                f"{file} does not hold a task: {error}",
                fix="Give the task's record.json from the miner's folder, or JSON with type, base and parameters",
            ) from error
        if start is None:
            asked = validate_request({"hours": 1.0, "dataset": "rows.jsonl", **told})
            parameters = cast(dict[str, JsonValue], dict(asked.parameters))
            return cls(type=asked.type, base=asked.base, parameters=parameters, hours=asked.hours)
        offer = start.offer
        return cls(
            type=offer.type,
            base=offer.base,
            base_digest=offer.base_digest,
            parameters=start.parameters,
            hours=offer.hours,
            train_sha256=start.train.sha256,
            seed=start.seed,
        )

    def was_trained_on(self, file: Path) -> bool:
        """Whether these are the task's train rows. Raises SetupError when the file cannot be read."""
        try:
            return file_sha256(file) == self.train_sha256
        except OSError as error:
            raise SetupError(
                f"The rows {file} cannot be read: {error.strerror}",
                fix="Name them: --data FILE; a miner's lie beside the task's record.json until its reveal ends",
            ) from error


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to measure on."""

    file: Path
    count: int
    kept: bool  # whether they are train rows that the reference trainers keep from training

    def __post_init__(self) -> None:
        if self.count < FEWEST_ROWS:
            why = "too few train rows to keep some from training" if self.kept else "too few rows"
            raise DatasetInvalid(f"There are {why}", fix="Give rows that were not trained on: --data FILE")


def some_rows(file: Path, target: Path, *, most: int, seed: int) -> Rows:
    """At most so many rows of a file, by lot."""
    lines = [line for line in file.read_bytes().split(b"\n") if line.strip()]
    chosen = sorted(random.Random(seed).sample(range(len(lines)), min(most, len(lines))))
    write_bytes(target, b"".join(lines[place] + b"\n" for place in chosen))
    return Rows(target, len(chosen), kept=False)
