"""How far a run is, and the one file that it goes on from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypedDict

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from gradients.files.whole import write_file


class Point(TypedDict):
    """One measurement of a run."""

    step: int
    tokens: int
    seconds: float
    train_loss: float
    held_out_loss: float


@dataclass(slots=True)
class Run:
    """What a checkpoint keeps beside tensors."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    history: list[Point] = field(default_factory=list)


def save_checkpoint(
    path: Path, model: LlamaForCausalLM, optimizers: Sequence[torch.optim.Optimizer], *, run: Run
) -> None:
    """Write model, optimizers and progress to one file, whole or not at all."""
    tensors = {f"model.{name}": tensor.detach().clone() for name, tensor in model.named_parameters()}
    for place, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{place}.{index}.{key}": value.clone() for key, value in state.items()}
    write_file(path, lambda part: save_file(tensors, part, metadata={"run": json.dumps(asdict(run))}))


def load_checkpoint(path: Path, model: LlamaForCausalLM, optimizers: Sequence[torch.optim.Optimizer]) -> Run:
    """Put a checkpoint's tensors into `model` and `optimizers` (none: the model alone is wanted); how far it was."""
    states: list[dict[int, dict[str, torch.Tensor]]] = [{} for _ in optimizers]
    parameters = dict(model.named_parameters())
    with safe_open(path, framework="pt") as file, torch.no_grad():
        run = Run(**json.loads(file.metadata()["run"]))
        for name in file.keys():  # noqa: SIM118 - safe_open is not a mapping
            kind, rest = name.split(".", 1)
            if kind == "model":
                parameters[rest].copy_(file.get_tensor(name))
            elif optimizers:
                place, index, key = rest.split(".")
                states[int(place)].setdefault(int(index), {})[key] = file.get_tensor(name)
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return run
