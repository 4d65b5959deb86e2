"""What a run costs, counted in tokens that pass through the model, whoever trains: forward once, backward twice as much.

A meter can be the clock of its process. Then a deadline is a number of tokens: what is trained under it does not depend on how fast the
machine is or who else is at work on it, and everything that an arm does before it hands in is charged: probes, validations, runs that are
thrown away. Padding counts. Writing files costs nothing. Of pictures it counts what the denoiser is called with, a picture as some tokens;
encoding captions and pixels, a tenth of the work at most, costs nothing.

It must be made before anything that keeps `time.time` for itself is imported.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

TOKENS_PER_SECOND = (
    400.0  # trained, of a process whose clock is a meter: a budget is minutes, as the trainer's constants expect
)
TRAINED, READ = 3, 1  # units of one token
PICTURE = 16  # tokens that a picture in a call of the denoiser counts as: a unit of budget is a minute again
DENOISER = "UNet2DConditionModel"


class Meter:
    """Counts units from when it is installed."""

    def __init__(self) -> None:
        self.units = 0
        self.trained_tokens = 0
        self.of_pictures = False  # whether the run at hand is one; then no language model's tokens count
        self._started = time.time()

    def now(self) -> float:
        """Unix seconds as they would be if the model's tokens were all that takes time."""
        return self._started + self.units / (TRAINED * TOKENS_PER_SECOND)

    def be_the_clock(self) -> None:
        """Have this process ask the meter for the time."""
        time.time = self.now

    def watch(self) -> RemovableHandle:
        """Count what any model of this process reads from now on, until the handle is removed."""
        from torch import Tensor, is_grad_enabled, nn
        from torch.nn.modules.module import register_module_forward_pre_hook

        def count(module: nn.Module, inputs: tuple[object, ...]) -> None:
            if not inputs or not isinstance(inputs[0], Tensor):
                return
            if type(module).__name__ == DENOISER if self.of_pictures else isinstance(module, nn.Embedding):
                tokens = PICTURE * len(inputs[0]) if self.of_pictures else inputs[0].numel()
                learns = is_grad_enabled() and module.training
                self.units += tokens * (TRAINED if learns else READ)
                self.trained_tokens += tokens * learns

        return register_module_forward_pre_hook(count)


def seconds_of(units: float) -> float:
    """How long units last by a meter's clock."""
    return units / (TRAINED * TOKENS_PER_SECOND)
