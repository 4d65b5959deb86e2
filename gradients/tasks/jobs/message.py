"""What every message to and from workers is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue

Parameters = dict[str, JsonValue]


class WorkerMessage(BaseModel):
    """Base of everything that is read from bytes: unknown keys are refused, values don't change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
