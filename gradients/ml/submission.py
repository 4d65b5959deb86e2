"""Puts a miner's weights into our base model and takes them out again.

Covers: nothing of a miner is ever loaded by a library that builds models from files. Its config is data, of which few keys count;
its tensors are taken by name, checked for shape, precision and finite numbers, and copied into weights of ours. Afterwards every
bit of the base is as before. Does not cover: names, sizes and number of files, which screening has limited before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.pytorch_utils import Conv1D

from gradients.errors import OperatorError, SubmissionRejected
from gradients.ml.submission_configs import ADAPTER_CONFIG, check_same_model, read_adapter_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER_WEIGHTS, FULL_CONFIG, FULL_WEIGHTS = "adapter_model.safetensors", "config.json", "model*.safetensors"
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_ADAPTER_TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
# Constants that older versions wrote beside the weights, and that nobody reads any more.
_CONSTANT = re.compile(
    r"(.+\.)?(rotary_emb\.inv_freq|rotary\.inv_freq|attn\.bias|attn\.masked_bias|attention\.bias|attention\.masked_bias)"
)


class LowRank(NamedTuple):
    """A change of a weight as the product of two thin matrices."""

    left: torch.Tensor  # [rows, rank]
    right: torch.Tensor  # [rank, columns]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the product."""
        return self.left.shape[0], self.right.shape[1]


class NewWeight(NamedTuple):
    """One of the base's weights as the submission wants it."""

    name: str
    value: torch.Tensor
    change: LowRank | None = None  # the difference to the base's, where it is known as a product


class Replaced(NamedTuple):
    """A weight of the base that is not in the model at the moment."""

    weight: torch.Tensor
    change: (
        LowRank | None
    )  # by which the one in its place differs; None where that is not known, or rounded away in part


@contextmanager
def applied(model: PreTrainedModel, folder: Path | None) -> Iterator[Mapping[str, Replaced]]:
    """The context in which `model` is the submission in `folder`, or itself when there is none; yields what `changed` yields.

    Raises SubmissionRejected when the submission cannot be applied, and OperatorError when the base did not come back bit by bit.
    """
    with changed(model, weights_in(folder, model) if folder is not None else ()) as replaced:
        yield replaced


def weights_in(folder: Path, model: PreTrainedModel) -> Iterator[NewWeight]:
    """The weights of the base as the submission in `folder` wants them. Raises SubmissionRejected."""
    full = sorted(folder.glob(FULL_WEIGHTS))
    is_adapter = (folder / ADAPTER_CONFIG).is_file()
    if is_adapter == bool(full):
        raise SubmissionRejected(
            f"The repo must hold an adapter or a model: {ADAPTER_CONFIG} or {FULL_WEIGHTS}", code="repo_kind"
        )
    return _merged(model, folder) if is_adapter else _copied(model, full, folder / FULL_CONFIG)


def change_for_good(model: nn.Module, weights: Iterable[NewWeight]) -> frozenset[str]:
    """Give `model`, on the CPU, these weights instead of its own; their names. Raises SubmissionRejected for what is not finite."""
    parameters, names = dict(model.named_parameters()), set[str]()
    for name, value, _ in weights:
        _check_finite(name, value)
        parameters[name].data = value.to(parameters[name].dtype)
        names.add(name)
    return frozenset(names)


@contextmanager
def changed(model: nn.Module, weights: Iterable[NewWeight]) -> Iterator[Mapping[str, Replaced]]:
    """The context in which `model` has these weights instead of its own; yields those that they replace, by name, on the CPU.

    On a CPU the base's own are put aside as they are; a GPU has no room for both, so there they are copied away and back.
    Raises SubmissionRejected for weights that are not finite, and OperatorError when the model did not come back bit by bit.
    """
    before = fingerprint(model)
    parameters = dict(model.named_parameters())
    aside: dict[str, Replaced] = {}
    try:
        with torch.no_grad():
            for name, value, change in weights:
                _check_finite(name, value)
                aside[name] = _put(parameters[name], value, change)
        yield aside
    finally:
        with torch.no_grad():
            for name, replaced in aside.items():
                _put_back(parameters[name], replaced.weight)
    if fingerprint(model) != before:
        raise OperatorError("The base model changed while a submission was measured", code="base_changed")


def _check_finite(name: str, value: torch.Tensor) -> None:
    """Raises SubmissionRejected for NaN and infinity. A sum tells it at little cost; only one that overflows has to be looked at."""
    if not (bool(torch.isfinite(value.sum())) or bool(torch.isfinite(value).all())):
        raise SubmissionRejected(f"{name} holds NaN or infinity", code="tensor_not_finite")


def _put(parameter: nn.Parameter, value: torch.Tensor, change: LowRank | None) -> Replaced:
    """Give a parameter another value; what it had."""
    known = change if parameter.dtype == torch.float32 else None  # a shorter number keeps only a part of the change
    if parameter.device.type == "cpu":
        own = parameter.data
        parameter.data = value.to(parameter.dtype)
        return Replaced(own, known)
    own = parameter.detach().to("cpu", copy=True)
    parameter.copy_(value)
    return Replaced(own, known)


def _put_back(parameter: nn.Parameter, own: torch.Tensor) -> None:
    if parameter.device.type == "cpu":
        parameter.data = own
    else:
        parameter.copy_(own)


def fingerprint(model: nn.Module) -> tuple[int, ...]:
    """Sums over the bits of each weight; equal for equal weights, and different for any that we would ever see."""
    views = {2: torch.int16, 4: torch.int32}
    return tuple(
        int(parameter.detach().view(views[parameter.element_size()]).sum(dtype=torch.int64))
        for parameter in model.parameters()
    )


def _copied(model: PreTrainedModel, files: list[Path], config: Path) -> Iterator[NewWeight]:
    """Every weight of the base, each exactly once, from the files of a full model.

    A weight that is tied to another may stand there under both names, with the same numbers; so may constants that the base has too.
    """
    if config.is_file():  # screening has asked for one
        check_same_model(config, model.config)
    missing = {name: parameter.shape for name, parameter in model.named_parameters()}
    first_name = {id(parameter): name for name, parameter in model.named_parameters()}
    tied = {
        name: first_name[id(parameter)]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if first_name[id(parameter)] != name
    }
    constants = dict(model.named_buffers())
    given: dict[str, torch.Tensor] = {}  # of tied weights, by the first name
    for file_name, value in read_tensors(files):
        longer = (
            f"{model.base_model_prefix}.{file_name}"  # checkpoints of a model without its head leave the prefix out
        )
        name = longer if longer in missing or longer in tied else file_name
        if name in constants or (name not in missing and name not in tied and _CONSTANT.fullmatch(name)):
            _check_constant(name, value, constants.get(name))
            continue
        whole = tied.get(name, name)
        if whole in tied.values() and whole in given:
            if not torch.equal(value, given[whole]):
                raise SubmissionRejected(f"{name} is tied to {whole}, and has other numbers", code="tensor_tied")
            continue
        if whole not in missing:
            raise SubmissionRejected(
                f"{file_name} is not a weight of the base, or is there twice", code="tensor_unknown"
            )
        check_shape(name, value, tuple(missing.pop(whole)))
        if whole in tied.values():
            given[whole] = value
        yield NewWeight(whole, value)
    if missing:
        raise SubmissionRejected(
            f"{len(missing)} weights are missing, {min(missing)} among them", code="tensor_missing"
        )


def _check_constant(name: str, value: torch.Tensor, ours: torch.Tensor | None) -> None:
    """Raises SubmissionRejected for a constant that is not the base's: where others load the file, it would count."""
    same = ours is None or (ours.shape == value.shape and torch.allclose(value.float(), ours.float().cpu(), rtol=1e-3))
    if not same:
        raise SubmissionRejected(f"{name} is not a weight, and differs from the base's", code="tensor_unknown")


def _merged(model: PreTrainedModel, folder: Path) -> Iterator[NewWeight]:
    """W + scale · B @ A for every linear layer that the adapter changes, multiplied in float32.

    Which layers these are stands in the tensors; what the config says about where to look for them is not needed.
    """
    config = read_adapter_config(folder / ADAPTER_CONFIG)
    head = model.get_output_embeddings()  # may share its weight with the embeddings
    layers = {n: layer for n, layer in model.named_modules() if is_linear(layer) and layer is not head}
    for module, factors in lora_factors(folder / ADAPTER_WEIGHTS, _peft_factor).items():
        if module not in layers:
            raise SubmissionRejected(
                f"{module} is not a linear layer that an adapter may change", code="tensor_unknown"
            )
        if set(factors) != {"A", "B"}:
            raise SubmissionRejected(f"{module} has only one of lora_A and lora_B", code="tensor_missing")
        weight = layers[module].weight.detach()
        across = isinstance(layers[module], Conv1D)  # GPT-2's linear layer, whose weight is [inputs, outputs]
        outputs, inputs = weight.T.shape if across else weight.shape
        rank = config.rank_of(module)
        check_shape(f"{module}.lora_A", factors["A"], (rank, inputs))
        check_shape(f"{module}.lora_B", factors["B"], (outputs, rank))
        a, b = (factors[side].to(weight.device, torch.float32) for side in "AB")
        scale = config.scale_of(module)
        change = scale * (b @ a)
        product = LowRank(scale * a.T, b.T) if across else LowRank(scale * b, a)
        value = (weight.float() + (change.T if across else change)).to(weight.dtype)
        yield NewWeight(f"{module}.weight", value, product)


def _peft_factor(name: str) -> Factor | None:
    found = _ADAPTER_TENSOR.fullmatch(name)
    return Factor(found["module"], found["side"]) if found else None


def is_linear(layer: nn.Module) -> bool:
    """Whether an adapter may change the layer."""
    return isinstance(layer, nn.Linear | Conv1D)


class Factor(NamedTuple):
    """What a tensor of a LoRA is, by its name."""

    module: str
    side: str  # "A", "B", or another that the caller knows


def lora_factors(file: Path, meaning: Callable[[str], Factor | None]) -> dict[str, dict[str, torch.Tensor]]:
    """LoRA factors by module and side.

    Args:
        meaning: what a tensor is by its name; None for one that is not part of a LoRA.
    """
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in read_tensors([file]):
        factor = meaning(name)
        if factor is None:
            raise SubmissionRejected(f"{name[:200]!r} is not a factor of a LoRA", code="tensor_unknown")
        if factor.side in found.setdefault(factor.module, {}):
            raise SubmissionRejected(f"{factor.module} has a factor twice, under two names", code="tensor_unknown")
        found[factor.module][factor.side] = value
    if not found:
        raise SubmissionRejected(f"{file.name} is empty", code="tensor_missing")
    return found


def read_tensors(files: list[Path]) -> Iterator[tuple[str, torch.Tensor]]:
    """Names and tensors of all files, one in memory at a time."""
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    yield name, tensors.get_tensor(name)
        except (SafetensorError, FileNotFoundError) as error:
            raise SubmissionRejected(f"{file.name} cannot be read: {error}", code="tensors_unreadable") from error


def check_shape(name: str, value: torch.Tensor, shape: tuple[int, ...]) -> None:
    """Raises SubmissionRejected for a tensor of another shape, or of a precision that no honest model has."""
    if value.dtype not in _DTYPES:
        raise SubmissionRejected(f"{name} is {value.dtype}, not a float of 16 or 32 bits", code="tensor_dtype")
    if tuple(value.shape) != shape:
        raise SubmissionRejected(f"{name} has shape {tuple(value.shape)}, not {shape}", code="tensor_shape")
