"""The parts of a training step that go through the model one after another: as large as memory allows, which only trying tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from gradients.errors import JobFailed
from gradients.log import get_logger
from gradients.ml.batching import batch_tokens, plan_batches
from gradients.ml.device import Device, is_out_of_memory

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_FEWEST_TOKENS = 32
Result = TypeVar("Result")

log = get_logger("training")


def compute_layers_again(model: PreTrainedModel) -> None:
    """Have each layer computed once more in the backward pass while the model trains, instead of keeping what it computed."""
    how = {"use_reentrant": False}  # which a frozen base would not train with
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    else:  # its name in older versions of transformers
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)


class MicroBatches:
    """How many tokens one pass takes; half as many for the rest of the run whenever memory has run out."""

    def __init__(self, device: Device, *, vocabulary: int, most: int | None = None) -> None:
        """Args:
        most: tokens that a plan allows; None leaves it to the device.
        """
        self._device = device
        self.tokens = min(batch_tokens(device, vocabulary), most or batch_tokens(device, vocabulary))

    def total(self, model: PreTrainedModel, lengths: Sequence[int], one: Callable[[Sequence[int]], float]) -> float:
        """The sum of `one` over all rows, a micro-batch at a time; each call adds gradients to the model's, which are a step's own.

        Args:
            lengths: of the step's rows.
            one: given positions of rows; what it leaves when memory runs out in it is dropped, and the step begins anew.

        Raises JobFailed (out_of_memory) when not even single rows fit.
        """

        def whole_step() -> float:
            return sum(one(positions) for positions in plan_batches(lengths, max_tokens=self.tokens))

        return self.fitting(model, whole_step, row=min(lengths))

    def fitting(self, model: PreTrainedModel, work: Callable[[], Result], *, row: int) -> Result:
        """What `work` returns, which goes by `tokens`. Whenever memory runs out in it, it begins anew, with gradients dropped.

        Args:
            row: tokens of the smallest part that it can be made in.

        Raises JobFailed (out_of_memory) when not even these fit.
        """

        def halve() -> bool:
            if self.tokens <= max(_FEWEST_TOKENS, row):
                return False
            self.tokens //= 2
            log.warning("micro_batch_halved", tokens=self.tokens)
            return True

        return _until_it_fits(model, work, device=self._device, halve=halve)


class Pictures:
    """How many pictures one pass takes; half as many for the rest of the run whenever memory has run out."""

    def __init__(self, device: Device, *, most: int) -> None:
        self._device = device
        self.at_once = most

    def fitting(self, model: nn.Module, work: Callable[[], Result]) -> Result:
        """What `work` returns, which goes by `at_once`. Whenever memory runs out in it, it begins anew, with gradients dropped.

        Raises JobFailed (out_of_memory) when not even single pictures fit.
        """

        def halve() -> bool:
            if self.at_once == 1:
                return False
            self.at_once //= 2
            log.warning("micro_batch_halved", rows=self.at_once)
            return True

        return _until_it_fits(model, work, device=self._device, halve=halve)


def _until_it_fits(
    model: nn.Module, work: Callable[[], Result], *, device: Device, halve: Callable[[], bool]
) -> Result:
    """What `work` returns once its parts are small enough; `halve` makes them smaller, or says that they cannot be."""
    while True:
        try:
            return work()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            problem = str(error)  # the error itself holds on to the tensors of its frames
        model.zero_grad()
        device.forget_unused()
        if not halve():
            raise JobFailed(
                f"Training runs out of memory on single rows: {problem}",
                code="out_of_memory",
                fix="Train with gradient checkpointing, on shorter or smaller rows, or with less beside it",
            )
