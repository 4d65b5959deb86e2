"""Reading prompts once: the numbers of whole rows read alone, on several architectures, whoever shares the batch."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM as Auto
from transformers import (
    BartConfig,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
)

from gradients.ml.answering import Answering, losses_and_answers
from gradients.ml.base_model import LoadedBase
from gradients.ml.device import Device
from gradients.ml.losses import measure_rows
from gradients.ml.reading import answer_losses, join, open_prompts, read_answers, reads_once, write
from gradients.ml.sampling import Sampling, answer
from gradients.ml.text import Example, answered

CPU = Device("cpu")
PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13], [14], [15, 16, 17], [6, 5, 4]]
ANSWERS = [[20, 21, 22], [23], [24, 25, 26, 27, 28, 29], [30, 31], [5, 5], [7, 8, 9, 10, 11]]
BEHIND = [0, 0, 1, 2, 3, 3]  # the prompt of each answer
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
LLAMA = LlamaConfig(**SIZES, num_key_value_heads=2, intermediate_size=48, max_position_embeddings=64)
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LLAMA,
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64, n_positions=64),
    "mistral": MistralConfig(**SIZES, num_key_value_heads=2, intermediate_size=48, sliding_window=6),
    "gemma2": Gemma2Config(**SIZES, num_key_value_heads=2, intermediate_size=48, head_dim=8, sliding_window=6),
    "bloom": BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=64),
}
ALL = pytest.mark.parametrize("name", CONFIGS)


def model_of(config: PretrainedConfig) -> PreTrainedModel:
    """One whose weights are large enough to tell tokens apart."""
    torch.manual_seed(3)
    model: PreTrainedModel = Auto.from_config(config).eval().requires_grad_(False)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.mul_(5)
    return model


def likeliest(logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
    assert len(logits) == len(rows)
    return logits.argmax(dim=-1)


@ALL
def test_losses_of_answers_are_those_of_whole_rows(name: str) -> None:
    model = model_of(CONFIGS[name])
    whole = [answered(PROMPTS[row], tokens) for row, tokens in zip(BEHIND, ANSWERS, strict=True)]
    alone = [measure_rows(model, [row], device=CPU, max_tokens=64)[0] for row in whole]
    with torch.inference_mode():
        opening = open_prompts(model, PROMPTS, CPU)
        for most in (1, 12, 1000):
            behind = answer_losses(opening, BEHIND, ANSWERS, max_tokens=most)
            assert [loss.tokens for loss in behind] == [loss.tokens for loss in alone]
            assert [loss.mean for loss in behind] == pytest.approx([loss.mean for loss in alone], abs=1e-5)


@ALL
def test_what_is_written_is_what_generate_writes_row_by_row(name: str) -> None:
    model, stop, room = model_of(CONFIGS[name]), [3, 9, 40], [6, 1, 12, 9]
    with torch.inference_mode():
        together = write(open_prompts(model, PROMPTS, CPU), choose=likeliest, stop=stop, room=room)
        for prompt, most, tokens in zip(PROMPTS, room, together, strict=True):
            row = torch.tensor([prompt])
            alone = model.generate(
                row,
                attention_mask=torch.ones_like(row),
                max_new_tokens=most,
                do_sample=False,
                eos_token_id=stop,
                pad_token_id=0,
            )
            assert tokens == alone[0, len(prompt) :].tolist()
    assert {len(tokens) for tokens in together} > {1}


def test_rows_that_have_ended_are_not_written_any_more() -> None:
    model, widths = model_of(LLAMA), list[int]()
    with torch.inference_mode():
        opening = open_prompts(model, PROMPTS, CPU)
        with model.register_forward_pre_hook(
            lambda _, __, given: widths.append(len(given["input_ids"])), with_kwargs=True
        ):
            write(opening, choose=likeliest, stop=[], room=[1, 3, 3, 5])
    assert widths == [3, 3, 1, 1]  # the first tokens were known before


@ALL
def test_readings_that_are_joined_go_on_as_if_they_had_been_read_together(name: str) -> None:
    model = model_of(CONFIGS[name])
    with torch.inference_mode():
        together = open_prompts(model, PROMPTS, CPU)
        joined = join([open_prompts(model, PROMPTS[:1], CPU), open_prompts(model, PROMPTS[1:], CPU)])
        assert torch.equal(joined.mask, together.mask)
        answers = ANSWERS[:4]
        one, other = (read_answers(reading, answers) for reading in (joined, together))
    assert one.tokens.tolist() == [token for answer in answers for token in answer]
    assert torch.allclose(one.logits, other.logits, atol=1e-5)


def test_a_reading_stays_as_it_is_whatever_is_read_behind_its_rows() -> None:
    model = model_of(LLAMA)
    with torch.inference_mode():
        opening = open_prompts(model, PROMPTS, CPU)
        first = answer_losses(opening, BEHIND, ANSWERS, max_tokens=64)
        write(opening.select(torch.tensor([2, 2])), choose=likeliest, stop=[], room=[4, 4])
        assert answer_losses(opening, BEHIND, ANSWERS, max_tokens=64) == first


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        *((config, True) for config in CONFIGS.values()),
        # counts positions from the left end of a padded row
        (BartConfig(d_model=32, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=48, vocab_size=64), False),
        (MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=64), False),  # a state runs through the row
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)
def test_whether_prompts_can_be_read_apart_is_found_by_trying(config: PretrainedConfig, expected: bool) -> None:
    assert reads_once(model_of(config), CPU) is expected


@pytest.mark.parametrize("padded", [True, False])
def test_rows_are_measured_and_answered_as_one_by_one(base: LoadedBase, examples: list[Example], padded: bool) -> None:
    told: list[int] = []
    how = Answering(stop=[2], max_new_tokens=12, padded=padded)
    losses, texts = losses_and_answers(base, examples, [1, 4, 9], how, progress=told.append)
    alone = [measure_rows(base.model, [row], device=CPU, max_tokens=1)[0].mean for row in examples]
    assert [loss.mean for loss in losses] == pytest.approx(alone, abs=1e-5)
    assert texts == {
        row: answer(base, examples[row].tokens[: examples[row].spans[0].start], stop=[2], sampling=Sampling(12))
        for row in (1, 4, 9)
    }
    assert told[-1] == len(examples)
