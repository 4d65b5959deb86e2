"""What a daemon says of itself: whether it lives, which version it runs, and whether it can work."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from gradients.client.models import Answer


class Health(Answer):
    """Whether the process answers."""

    alive: bool = Field(description="always true")
    version: str = Field(description="version of the validator's code")


class Version(Answer):
    """Which version of the code a daemon runs."""

    version: str = Field(description="the version")


class Condition(Answer):
    """One thing that a daemon needs for its work."""

    name: str = Field(description="what was looked at, such as 'permit', 'chain' or 'folder'")
    level: Literal["ok", "note", "missing"] = Field(description="'missing': the work cannot be done like this")
    found: str = Field(description="what was found, for people")
    advice: str = Field(description="what its operator can do; empty where nothing needs to be done")


class Readiness(Answer):
    """Whether a daemon can do its work now."""

    ready: bool = Field(description="false before anything was looked at, and while a condition is 'missing'")
    notes: tuple[str, ...] = Field(
        default=(), description="what its operator should know, such as that workers run without a sandbox"
    )
    conditions: tuple[Condition, ...] = Field(default=(), description="what the work needs, each as it was last found")
