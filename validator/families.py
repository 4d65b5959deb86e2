"""Whether a base is of the kind that a task type fine-tunes."""

from __future__ import annotations

from gradients.errors import TaskInvalid
from gradients.repo.bases import Family
from gradients.tasks.base import TaskType


def check_family(kind: TaskType, base: str, family: Family) -> None:
    """Raises TaskInvalid when tasks of this type fine-tune other models than the base."""
    if family != kind.base_family:
        raise TaskInvalid(f"{base} is no {kind.base_family} model", fix=f"Tasks of type {kind.name} fine-tune one")
