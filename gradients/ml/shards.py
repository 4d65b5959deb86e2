"""A model whose weights lie in parts in several processes (torch's FSDP2), and tensors of it as a part or as a whole.

Tensors of any other model are what they are, so that whoever asks need not know.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def shard(model: PreTrainedModel, layers: Iterable[nn.Module]) -> None:
    """Leave this process a part of every weight. Layers are put together one after another as they are needed."""
    from torch.distributed.device_mesh import init_device_mesh  # a second of imports
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (dist.get_world_size(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    # The rest too lies in parts between passes, which is not the default: a copy that stayed whole would miss weights that are put in.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    # What is put together for the first time while nothing is to be learnt could never be learnt from.
    with torch.no_grad():
        model(input_ids=torch.zeros(1, 2, dtype=torch.int64, device=mesh.device_type), use_cache=False)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What of a tensor lies in this process."""
    part: torch.Tensor = tensor.to_local() if _is_spread(tensor) else tensor
    return part


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor; every process has to ask for it."""
    every: torch.Tensor = tensor.full_tensor() if _is_spread(tensor) else tensor
    return every


def like(part: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """This process's part as what it is a part of, shaped as `tensor`."""
    if not _is_spread(tensor) or part.shape != local(tensor).shape:
        return part
    from torch.distributed.tensor import DTensor

    given: torch.Tensor = DTensor.from_local(
        part.to(tensor.device),
        tensor.device_mesh,
        tensor.placements,
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )
    return given


def layers_of(model: PreTrainedModel) -> list[nn.Module]:
    """The layers that transformers would not part over devices, the parts that are put together at once."""
    names = set(model._no_split_modules or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def _is_spread(tensor: torch.Tensor) -> bool:
    return hasattr(tensor, "to_local")  # a DTensor, whose import would cost every job a second
