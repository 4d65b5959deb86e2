"""Answers of base and submission side by side, for people to look at. No score depends on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import Field

from gradients.domain.json import JsonObject
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.device import choose_device
from gradients.ml.sampling import Sampling, answer
from gradients.ml.submission import applied
from gradients.ml.text import ChatFormat
from gradients.tasks.jobs import WorkerMessage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class GenerateJob(WorkerMessage):
    """Arguments of `generate`."""

    base_folder: Path
    submission_folder: Path | None = Field(default=None, description="None answers with the base alone")
    prompts: tuple[str, ...]
    system: str | None = None
    max_new_tokens: int = Field(default=64, ge=1, le=4096)
    temperature: float = Field(default=0.0, ge=0, le=10, description="0 takes the likeliest token every time")
    seed: int = 0


def generate(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """{"answers": [{"prompt", "base", "submission"}]}; `submission` is null when there is none. Each answer is reported as it comes."""
    return generate_in(ChatFormat, arguments, report)


def generate_in(
    make_format: Callable[[PreTrainedTokenizerBase], ChatFormat],
    arguments: JsonObject,
    report: Callable[[JsonObject], None],
) -> JsonObject:
    """What `generate` returns, with prompts in the format that the type trains in."""
    job = GenerateJob.model_validate(arguments)
    base = load_base(job.base_folder, choose_device())
    chat = make_format(base.tokenizer)
    of_base = _answers(base, chat, job, folder=None, report=report)
    of_submission = (
        _answers(base, chat, job, folder=job.submission_folder, report=report)
        if job.submission_folder
        else [None] * len(of_base)
    )
    return {
        "answers": [
            {"prompt": prompt, "base": ours, "submission": theirs}
            for prompt, ours, theirs in zip(job.prompts, of_base, of_submission, strict=True)
        ]
    }


def _answers(
    base: LoadedBase, chat: ChatFormat, job: GenerateJob, *, folder: Path | None, report: Callable[[JsonObject], None]
) -> list[str | None]:
    sampling = Sampling(max_new_tokens=job.max_new_tokens, temperature=job.temperature)
    answers: list[str | None] = []
    with applied(base.model, folder):
        for prompt in job.prompts:
            torch.manual_seed(job.seed)  # the same random numbers for both
            tokens = chat.prompt_tokens(system=job.system, prompt=prompt)
            text = answer(base, tokens, stop=chat.stop_tokens, sampling=sampling)
            answers.append(text)
            report({"entrant": "submission" if folder else "base", "prompt": prompt, "answer": text})
    return answers
