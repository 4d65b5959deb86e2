"""Drawing answers: as likely as the model finds them, alike for models that think alike, and whoever else is in the batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from gradients.ml.base_model import LoadedBase
from gradients.ml.device import Device
from gradients.ml.rollouts import Rollout, RolloutSettings, roll_out
from gradients.ml.text import ChatFormat

CPU = Device("cpu")
SETTINGS = RolloutSettings(samples=3, max_new_tokens=12, temperature=1.0, stop_tokens=(2,), batch_tokens=2048)


@pytest.fixture(scope="module")
def prompts(base: LoadedBase) -> list[list[int]]:
    """Prompts of different lengths."""
    chat = ChatFormat(base.tokenizer)
    return [chat.prompt_tokens(system=None, prompt="Where is it? " * repeats) for repeats in (1, 5, 2, 1, 9)]


def drawn(
    base: LoadedBase, prompts: list[list[int]], settings: RolloutSettings = SETTINGS, *, seed: int = 1
) -> list[list[Rollout]]:
    return roll_out(base.model, prompts, settings, seed=seed, device=CPU)


def test_answers_come_in_the_prompts_order_as_many_as_asked(base: LoadedBase, prompts: list[list[int]]) -> None:
    answers = drawn(base, prompts)
    assert [[answer.prompt for answer in group] for group in answers] == [[prompt] * 3 for prompt in prompts]


def test_an_answer_depends_on_nobody_else_in_the_batch(base: LoadedBase, prompts: list[list[int]]) -> None:
    together = drawn(base, prompts)
    assert together == [drawn(base, [prompt])[0] for prompt in prompts]
    assert together == drawn(base, prompts[::-1])[::-1]
    assert together == drawn(base, prompts, replace(SETTINGS, batch_tokens=1))


def test_no_more_answers_are_written_at_once_than_fit(base: LoadedBase, prompts: list[list[int]]) -> None:
    widths: list[int] = []
    many = replace(SETTINGS, samples=10)
    longest = max(map(len, prompts)) + 12
    with base.model.register_forward_pre_hook(
        lambda _, __, given: widths.append(given["input_ids"].shape[0]), with_kwargs=True
    ):
        parts = drawn(base, prompts, replace(many, batch_tokens=longest))
        assert max(widths) > 4  # of shorter prompts more fit
        widths.clear()
        longest_alone = drawn(base, prompts[-1:], replace(many, batch_tokens=longest))
        assert max(widths) == 4  # 4, 4 and 2
    assert parts == drawn(base, prompts, many)
    assert longest_alone == parts[-1:]


def test_the_same_seed_gives_the_same_answers_and_another_one_others(
    base: LoadedBase, prompts: list[list[int]]
) -> None:
    assert drawn(base, prompts) == drawn(base, prompts)
    assert drawn(base, prompts) != drawn(base, prompts, seed=2)
    group = drawn(base, prompts)[0]
    assert len({tuple(answer.completion) for answer in group}) > 1


def test_tokens_are_drawn_as_likely_as_the_model_finds_them(base: LoadedBase, prompts: list[list[int]]) -> None:
    many = replace(SETTINGS, samples=4000, max_new_tokens=1, temperature=0.5)
    tokens = [answer.completion[0] for answer in drawn(base, prompts[:1], many)[0]]
    with torch.inference_mode():
        logits = base.model(input_ids=torch.tensor([prompts[0]]), use_cache=False).logits[0, -1]
    likely = torch.softmax(logits / 0.5, dim=-1)
    seen = torch.bincount(torch.tensor(tokens), minlength=len(likely)) / 4000
    # about sqrt(2 · tokens / (pi · draws)) / 2 by chance alone; twice that
    assert float((seen - likely).abs().sum() / 2) < (2 * len(likely) / (3.14 * 4000)) ** 0.5


def test_the_cache_changes_nothing(base: LoadedBase, prompts: list[list[int]]) -> None:
    """At a low temperature each token is the likeliest one; found again without cache, padding or batch."""
    cold = replace(SETTINGS, samples=1, temperature=0.05)
    for (answer,) in drawn(base, prompts, cold):
        row = torch.tensor([answer.prompt + answer.completion])
        with torch.inference_mode():
            logits = base.model(input_ids=row, use_cache=False).logits[0, len(answer.prompt) - 1 : -1]
        chosen = logits.gather(1, torch.tensor(answer.completion)[:, None]).squeeze(1)
        assert float((logits.max(dim=1).values - chosen).max()) < 0.5  # ten times the temperature: e^-10 by chance


def test_an_answer_ends_with_its_stop_token(base: LoadedBase, prompts: list[list[int]]) -> None:
    every = tuple(range(0, base.vocabulary, 4))
    answers = [answer for group in drawn(base, prompts, replace(SETTINGS, stop_tokens=every)) for answer in group]
    assert any(answer.finished for answer in answers)
    for answer in answers:
        assert answer.finished == (answer.completion[-1] in every)
        assert not set(answer.completion[:-1]) & set(every)
        assert answer.finished or len(answer.completion) == 12


def test_progress_ends_with_all_prompts(base: LoadedBase, prompts: list[list[int]]) -> None:
    told: list[int] = []
    roll_out(base.model, prompts, replace(SETTINGS, batch_tokens=1), seed=1, device=CPU, progress=told.append)
    assert told == [1, 2, 3, 4, 5]
