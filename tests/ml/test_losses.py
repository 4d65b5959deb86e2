from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gradients.ml.base_model import LoadedBase
from gradients.ml.batching import IGNORED, pad
from gradients.ml.device import Device
from gradients.ml.losses import batch_losses, measure_rows
from gradients.ml.text import Example, answered

CPU = Device("cpu")


def means(base: LoadedBase, examples: list[Example], *, max_tokens: int = 2048) -> list[float]:
    return [row.mean for row in measure_rows(base.model, examples, device=CPU, max_tokens=max_tokens)]


def test_a_rows_loss_is_transformers_own_loss(base: LoadedBase, examples: list[Example]) -> None:
    for example, ours in zip(examples, means(base, examples), strict=True):
        tokens = torch.tensor([example.tokens])
        labels = tokens.clone()
        labels[:, : example.spans[0].start] = IGNORED
        with torch.no_grad():
            theirs = base.model(input_ids=tokens, labels=labels, use_cache=False).loss.item()
        assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("max_tokens", [1, 300, 100_000])
def test_losses_do_not_depend_on_who_shares_the_batch(
    base: LoadedBase, examples: list[Example], max_tokens: int
) -> None:
    assert means(base, examples, max_tokens=max_tokens) == pytest.approx(means(base, examples), abs=1e-6)


def test_the_same_measurement_gives_the_same_bits(base: LoadedBase, examples: list[Example]) -> None:
    assert means(base, examples) == means(base, examples)


def test_losses_come_in_the_order_of_the_rows_with_their_token_counts(
    base: LoadedBase, examples: list[Example]
) -> None:
    measured = measure_rows(base.model, examples, device=CPU, max_tokens=300)
    backwards = measure_rows(base.model, examples[::-1], device=CPU, max_tokens=300)
    assert [row.tokens for row in measured] == [e.counted for e in examples]
    assert [row.mean for row in measured] == pytest.approx([row.mean for row in backwards[::-1]], abs=1e-6)


def test_progress_ends_with_all_rows(base: LoadedBase, examples: list[Example]) -> None:
    told: list[int] = []
    measure_rows(base.model, examples, device=CPU, max_tokens=300, progress=told.append)
    assert told == sorted(told)
    assert len(told) > 1
    assert told[-1] == len(examples)


class Headed(nn.Module):  # type: ignore[misc]  # torch is not typed for tests
    """Takes token numbers for hidden states; its head, which may be another layer's business, finds all of 16 tokens equally likely."""

    def __init__(self, *, told: bool = True) -> None:
        super().__init__()
        self.head, self.told = nn.Linear(1, 16, bias=False), told
        nn.init.zeros_(self.head.weight)
        self.caches, self.headed = list[bool](), list[list[float]]()

    def get_output_embeddings(self) -> nn.Module | None:
        return self.head if self.told else None

    def forward(self, *, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        self.caches.append(use_cache)
        self.head.register_forward_hook(lambda _, given, __: self.headed.append(given[0].flatten().tolist()))
        return SimpleNamespace(logits=self.head(input_ids.float().unsqueeze(-1)))


@pytest.mark.parametrize("told", [True, False])
def test_a_forward_pass_never_uses_a_cache_nor_a_mask_and_heads_only_what_counts(*, told: bool) -> None:
    model = Headed(told=told)
    losses = batch_losses(model, pad([answered([1, 2], [3, 4]), answered([5, 6], [7])], CPU))
    assert model.caches == [False]
    # tokens 2, 3 and 6 stand before a counted one; a model that does not say what its head is heads them all
    assert model.headed == ([[2, 3, 6]] if told else [[1, 2, 3, 4, 5, 6, 7, 0]])
    assert losses.tokens.tolist() == [2, 1]
    assert (losses.sums / losses.tokens).tolist() == pytest.approx([2.772588722, 2.772588722])  # ln 16


def test_packed_rows_see_one_another_unless_the_cache_is_off(base: LoadedBase, examples: list[Example]) -> None:
    """The trap that use_cache=False is for: it is why rows could be packed at all, and why nothing here may forget it."""
    first, second = examples[0].tokens, examples[1].tokens
    packed = torch.tensor([first + second])
    positions = torch.tensor([[*range(len(first)), *range(len(second))]])
    with torch.no_grad():
        alone = base.model(input_ids=torch.tensor([second]), use_cache=False).logits[0]
        without_cache = base.model(input_ids=packed, position_ids=positions, use_cache=False).logits[0, len(first) :]
        with_cache = base.model(input_ids=packed, position_ids=positions, use_cache=True).logits[0, len(first) :]
    assert torch.allclose(without_cache, alone, atol=1e-4)
    assert not torch.allclose(with_cache, alone, atol=1e-1)


def test_half_precision_weights_are_computed_in_float32_on_a_cpu(base: LoadedBase) -> None:
    assert base.stored_dtype == torch.float16
    assert {weight.dtype for weight in base.model.parameters()} == {torch.float32}
    with CPU.precision():
        assert base.model(input_ids=torch.tensor([[1, 2]]), use_cache=False).logits.dtype == torch.float32


def test_batches_are_halved_where_memory_runs_out_and_losses_stay(base: LoadedBase, examples: list[Example]) -> None:
    whole = measure_rows(base.model, examples, device=CPU, max_tokens=2048)
    largest: list[int] = []

    def refuse(_: nn.Module, __: tuple[object, ...], given: dict[str, torch.Tensor]) -> None:
        largest.append(len(given["input_ids"]))
        if largest[-1] > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")

    hook = base.model.register_forward_pre_hook(refuse, with_kwargs=True)
    told: list[int] = []
    try:
        halved = measure_rows(base.model, examples, device=CPU, max_tokens=2048, progress=told.append)
    finally:
        hook.remove()
    assert max(largest) > 5
    assert max(largest[-3:]) <= 5
    assert told[-1] == len(examples)
    assert [row.tokens for row in halved] == [row.tokens for row in whole]
    assert [row.mean for row in halved] == pytest.approx([row.mean for row in whole], abs=1e-5)


def test_a_single_row_that_does_not_fit_and_other_errors_are_raised(base: LoadedBase, examples: list[Example]) -> None:
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("a kernel is broken")):

        def refuse(*_: object, error: Exception = error) -> None:
            raise error

        hook = base.model.register_forward_pre_hook(refuse)
        try:
            with pytest.raises(type(error), match=str(error)):
                measure_rows(base.model, examples, device=CPU, max_tokens=2048)
        finally:
            hook.remove()
