"""The tasks that the market on one machine posts: what each type declares for it, on data that ships."""

from __future__ import annotations

from gradients.domain.json import Json
from gradients.tasks.registry import task_type


def spec(name: str, *, number: int, hours: float, base: str | None) -> dict[str, Json]:
    """What to post as the task of a type that has the number (from 0). Raises TaskInvalid for a type that there is not.

    Args:
        base: instead of the demonstration's own, for types that fine-tune language models.
    """
    kind = task_type(name)
    chosen = kind.demonstrations[number % len(kind.demonstrations)]
    return {
        "type": name,
        "base": base if base and kind.base_family == "language" else chosen.base,
        "dataset": str(chosen.dataset),
        "parameters": chosen.parameters,
        "hours": hours,
        "private": False,  # everything can be checked by `gradients audit`
    }
