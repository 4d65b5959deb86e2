from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from gradients.domain.json import JsonObject
from gradients.ml.base_model import LoadedBase
from gradients.ml.sampling import Sampling, answer
from gradients.tasks.workers.generation import generate


@pytest.fixture
def submission(base_folder: Path, tmp_path: Path) -> Path:
    """A full model that has other random weights than the base."""
    torch.manual_seed(0)
    tensors = load_file(base_folder / "model.safetensors")
    save_file(
        {name: torch.randn_like(tensor) * 0.2 for name, tensor in tensors.items()}, tmp_path / "model.safetensors"
    )
    return tmp_path


def arguments(base_folder: Path, **changes: object) -> JsonObject:
    job = {"base_folder": str(base_folder), "prompts": ["What is an anvil?", "And a ferry?"], "max_new_tokens": 8}
    return job | changes  # type: ignore[return-value]  # test values are JSON


def test_base_and_submission_answer_side_by_side(base_folder: Path, submission: Path) -> None:
    told: list[JsonObject] = []
    result = generate(arguments(base_folder, submissions={"mine": str(submission)}), told.append)
    answers = result["answers"]
    assert isinstance(answers, list)
    assert [answer["prompt"] for answer in answers] == ["What is an anvil?", "And a ferry?"]
    assert all(answer["base"] != answer["mine"] for answer in answers)
    assert [progress["entrant"] for progress in told] == ["base", "base", "mine", "mine"]


def test_the_base_alone_answers_without_a_submission(base_folder: Path) -> None:
    answers = generate(arguments(base_folder), lambda _: None)["answers"]
    assert isinstance(answers, list)
    assert {tuple(answer) for answer in answers} == {("prompt", "base")}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_same_seed_gives_the_same_answers(base_folder: Path, temperature: float) -> None:
    def ask(seed: int) -> JsonObject:
        return generate(arguments(base_folder, temperature=temperature, seed=seed), lambda _: None)

    assert ask(1) == ask(1)
    assert (ask(1) == ask(2)) == (temperature == 0.0)


def test_an_answer_ends_at_the_stop_token(base: LoadedBase) -> None:
    prompt = [5, 6, 7]
    with torch.no_grad():
        likeliest = int(base.model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1].argmax())
    assert answer(base, prompt, stop=[likeliest], sampling=Sampling(max_new_tokens=8)) in (
        "",
        base.tokenizer.decode([likeliest]).strip(),
    )
    assert len(answer(base, prompt, stop=[2], sampling=Sampling(max_new_tokens=8))) > 1
