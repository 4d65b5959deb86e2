"""What the market looks like at one moment: made by the runner, drawn by the screen, printed at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gradients.client.models import TaskDetails


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Chain, tasks and processes at one moment."""

    seconds: float  # since the command was given
    doing: str  # one phrase for people
    block: int = 0
    tasks: tuple[TaskDetails, ...] = ()
    weights: Mapping[int, float] = field(default_factory=dict)  # uid -> share of the validator's weights on chain
    incentive: Mapping[int, float] = field(default_factory=dict)  # uid -> share of the last epoch
    restarts: Mapping[str, int] = field(default_factory=dict)  # process -> how often it was started again
