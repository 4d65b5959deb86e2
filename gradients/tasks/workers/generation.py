"""Answers of base and submissions side by side, for people to look at. No score depends on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field, StringConstraints

from gradients.domain.json import Json, JsonObject
from gradients.ml.base_model import LoadedBase, load_base
from gradients.ml.device import choose_device
from gradients.ml.sampling import Sampling, answer
from gradients.ml.submission import applied
from gradients.ml.text import ChatFormat
from gradients.tasks.jobs.message import WorkerMessage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


BASE = "base"
EntrantName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class GenerateJob(WorkerMessage):
    """Arguments of `generate`."""

    base_folder: Path
    submissions: dict[EntrantName, Path] = Field(
        default_factory=dict, description="folders by name, asked after the base"
    )
    prompts: tuple[str, ...]
    system: str | None = None
    max_new_tokens: int = Field(default=64, ge=1, le=4096)
    temperature: float = Field(default=0.0, ge=0, le=10, description="0 takes the likeliest token every time")
    seed: int = 0


def generate(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """{"answers": [{"prompt", "base", and each submission by its name}]}. Each answer is reported as it comes."""
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
    entrants: dict[str, Path | None] = {BASE: None, **job.submissions}
    answers = {who: _answers(base, chat, job, who, folder, report=report) for who, folder in entrants.items()}
    return {"answers": by_prompt(job, answers)}


def by_prompt(job: GenerateJob, answers: Mapping[str, Sequence[str]]) -> list[Json]:
    """Every entrant's answers, put together for each prompt."""
    return [
        {"prompt": prompt, **{who: theirs[place] for who, theirs in answers.items()}}
        for place, prompt in enumerate(job.prompts)
    ]


def _answers(
    base: LoadedBase,
    chat: ChatFormat,
    job: GenerateJob,
    who: str,
    folder: Path | None,
    *,
    report: Callable[[JsonObject], None],
) -> list[str]:
    sampling = Sampling(max_new_tokens=job.max_new_tokens, temperature=job.temperature)
    answers: list[str] = []
    with applied(base.model, folder):
        for prompt in job.prompts:
            torch.manual_seed(job.seed)  # the same random numbers for all
            tokens = chat.prompt_tokens(system=job.system, prompt=prompt)
            text = answer(base, tokens, stop=chat.stop_tokens, sampling=sampling)
            answers.append(text)
            report({"entrant": who, "prompt": prompt, "answer": text})
    return answers
