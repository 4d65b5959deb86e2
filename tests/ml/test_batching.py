from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradients.ml.batching import IGNORED, batch_tokens, endless_batches, epoch_batches, pad, plan_batches, plan_tightly
from gradients.ml.device import Device
from gradients.ml.text import answered

lengths_of_rows = st.lists(st.integers(min_value=1, max_value=60), min_size=1, max_size=80)


@given(lengths_of_rows, st.integers(min_value=1, max_value=200))
def test_every_row_is_in_exactly_one_batch_of_bounded_size(lengths: list[int], max_tokens: int) -> None:
    batches = plan_batches(lengths, max_tokens=max_tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= max_tokens


@given(lengths_of_rows, st.integers(min_value=1, max_value=200))
def test_a_tight_plan_holds_every_row_once_within_the_size_and_pads_little(lengths: list[int], max_tokens: int) -> None:
    batches = plan_tightly(lengths, max_tokens=max_tokens)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        long = [lengths[row] for row in batch]
        assert len(batch) == 1 or len(batch) * max(long) <= max_tokens
        begun = sum(1 for n in range(len(long)) if n * long[0] < max_tokens / 4)  # rows that fill it anyway
        assert all(length >= 0.75 * long[0] for length in long[begun:])


def test_the_longest_rows_come_first_so_that_memory_runs_out_at_once_or_never() -> None:
    assert plan_batches([3, 9, 4, 4], max_tokens=9) == [[1], [2, 3], [0]]


@given(lengths_of_rows, st.integers(min_value=1, max_value=9), st.integers(min_value=0, max_value=5))
def test_an_epoch_shows_every_row_once(lengths: list[int], batch_rows: int, seed: int) -> None:
    batches = epoch_batches(lengths, batch_rows=batch_rows, seed=seed)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) <= batch_rows for batch in batches)


def test_epochs_differ_and_seeds_repeat_them() -> None:
    def two_epochs(seed: int) -> list[list[int]]:
        return list(islice(endless_batches([5] * 8, batch_rows=4, seed=seed, rows_seen=0), 4))

    assert two_epochs(1) == two_epochs(1)
    assert two_epochs(1)[:2] != two_epochs(1)[2:]


@given(lengths_of_rows, st.integers(min_value=1, max_value=9), st.integers(min_value=0, max_value=30))
def test_a_resumed_run_sees_the_rows_that_it_would_have_seen(lengths: list[int], batch_rows: int, steps: int) -> None:
    whole = list(islice(endless_batches(lengths, batch_rows=batch_rows, seed=4, rows_seen=0), steps + 5))
    seen = sum(len(batch) for batch in whole[:steps])
    rest = endless_batches(lengths, batch_rows=batch_rows, seed=4, rows_seen=seen)
    assert list(islice(rest, 5)) == whole[steps:]


def test_only_completion_tokens_are_labels() -> None:
    batch = pad([answered([5, 6], [7]), answered([8], [9])], Device("cpu"))
    assert batch.tokens.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch.labels.tolist() == [[IGNORED, IGNORED, 7], [IGNORED, 9, IGNORED]]
    assert batch.tokens.dtype == torch.int64


@pytest.mark.parametrize(
    ("device", "vocabulary", "tokens"),
    [("cpu", 4096, 2048), ("cuda", 4096, 16_384), ("cuda", 151_936, 3533), ("cuda", 10**9, 256)],
)
def test_a_batch_is_as_large_as_its_logits_allow(device: str, vocabulary: int, tokens: int) -> None:
    assert batch_tokens(Device(device), vocabulary) == tokens  # 2^29 numbers / 151,936 = 3,533.6
