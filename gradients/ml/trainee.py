"""A model in training: the weights that train, AdamW over them, and both as named tensors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer

from gradients.ml.checkpoint import Tensors
from gradients.ml.low_bits import adamw_8bit
from gradients.ml.shards import like, local, whole

if TYPE_CHECKING:
    from torch import nn

OptimiserName = Literal["adamw", "adamw_8bit"]
_BETAS = (0.9, 0.99)  # runs are short: a memory of 100 steps, not of 1,000
_MAX_GRADIENT_NORM = 1.0


class Trainee:
    """Changes those weights of a model that require gradients, in place."""

    def __init__(
        self,
        model: nn.Module,
        *,
        weight_decay: float,
        lora_plus_ratio: float,
        optimiser: OptimiserName = "adamw",
        average_decay: float = 0.0,
    ) -> None:
        """Args:
        weight_decay: on matrices only.
        lora_plus_ratio: the learning rate of LoRA's B factors over that of all others (LoRA+, arXiv 2402.12354).
        average_decay: how much of the running average of weights stays in a step; 0 keeps none.
        """
        self.model = model
        self._weight_decay = weight_decay
        self._lora_plus_ratio = lora_plus_ratio
        self._optimiser_name = optimiser
        if any(hasattr(weight, "to_local") for weight in model.parameters()):  # a model in parts
            self._optimiser_name = "adamw"  # bitsandbytes has no moments in parts; plain ones in parts take no more
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._optimiser = self._fresh_optimiser()
        self._average_decay = average_decay
        self._averaged_steps = 0
        self._average = self._copies()

    @property
    def is_on_gpu(self) -> bool:
        """Whether memory that runs out is an error that can be answered; a CPU's process is killed."""
        return any(weight.is_cuda for weight in self._weights.values())

    @property
    def optimiser(self) -> torch.optim.Optimizer:
        """What changes the weights now; another one after `load_moments`."""
        return self._optimiser

    def step(self, rate: float) -> bool:
        """Follow the gradients that lie in the model, and clear them. False, and no step, when they are not finite."""
        finite = self.prepare(rate)
        if finite:
            self._optimiser.step()
            self.follow()
        self._optimiser.zero_grad()
        return finite

    def prepare(self, rate: float) -> bool:
        """Get ready for the optimiser's step: gradients clipped, the rate set. False when they are not finite, and dropped."""
        norm = clip_grad_norm_(self._weights.values(), _MAX_GRADIENT_NORM)
        finite = bool(torch.isfinite(whole(norm)))
        if not finite:
            self._optimiser.zero_grad()
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["rate_multiple"]
        return finite

    def follow(self) -> None:
        """Take the step that the optimiser has made into the running average."""
        if not self._average_decay:
            return
        # the average moves faster in the first steps, which the start should not outweigh
        self._averaged_steps += 1
        decay = min(self._average_decay, self._averaged_steps / (self._averaged_steps + 9))
        with torch.no_grad():
            for name, weight in self._weights.items():
                self._average[name].lerp_(weight, 1 - decay)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The context in which the model has the running average of its weights; itself where none is kept."""
        if not self._average_decay:
            yield
            return
        latest = self._copies()
        self._put(self._average)
        try:
            yield
        finally:
            self._put(latest)

    def weights(self) -> Tensors:
        """Copies of the weights on the CPU; of a model that is spread, this process's part."""
        return {name: local(weight).detach().to("cpu", copy=True) for name, weight in self._weights.items()}

    def load_weights(self, tensors: Tensors) -> None:
        """Take over weights that `weights` gave; their average begins anew."""
        self._put(tensors)
        self._average, self._averaged_steps = self._copies(), 0

    def restore(self, tensors: Tensors) -> None:
        """Take over weights that `weights` gave, in the precision that they had then."""
        for name, weight in self._weights.items():
            if weight.dtype != tensors[name].dtype:
                weight.data = weight.data.to(tensors[name].dtype)
                self._put({name: tensors[name]})

    def moments(self) -> Tensors:
        """Copies of the optimiser's state on the CPU, by "<parameter number>/<key>"."""
        return {
            f"{number}/{key}": local(torch.as_tensor(value)).detach().to("cpu", copy=True)
            for number, weight in enumerate(w for group in self._optimiser.param_groups for w in group["params"])
            for key, value in self._optimiser.state.get(weight, {}).items()
        }

    def load_moments(self, tensors: Tensors) -> None:
        """Take over a state that `moments` gave; an empty one starts afresh."""
        state: dict[int, dict[str, torch.Tensor | int]] = defaultdict(dict)
        self._optimiser = self._fresh_optimiser()
        order = [weight for group in self._optimiser.param_groups for weight in group["params"]]
        for name, tensor in tensors.items():
            number, _, key = name.partition("/")
            counts = key == "step" and self._optimiser_name == "adamw_8bit"  # which has a Python number there
            state[int(number)][key] = int(tensor) if counts else like(tensor.clone(), order[int(number)])
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": dict(state), "param_groups": groups})

    def _copies(self) -> Tensors:
        """The weights where they are; none when no average is kept."""
        return {name: weight.detach().clone() for name, weight in self._weights.items()} if self._average_decay else {}

    def _put(self, tensors: Tensors) -> None:
        with torch.no_grad():
            for name, tensor in tensors.items():
                local(self._weights[name]).copy_(tensor)

    def _fresh_optimiser(self) -> Optimizer:
        groups: dict[tuple[float, float], list[nn.Parameter]] = defaultdict(list)
        for name, weight in self._weights.items():
            multiple = self._lora_plus_ratio if ".lora_B." in name else 1.0
            groups[multiple, self._weight_decay if weight.ndim > 1 else 0.0].append(weight)
        asked: list[dict[str, Any]] = [  # as torch's optimisers take them
            {"params": weights, "rate_multiple": multiple, "weight_decay": decay}
            for (multiple, decay), weights in groups.items()
        ]
        if self._optimiser_name == "adamw_8bit":
            return adamw_8bit(asked, betas=_BETAS, on_gpu=self.is_on_gpu)
        return AdamW(asked, lr=0.0, betas=_BETAS, fused=True)
