"""Answers drawn by an OpenAI-compatible server that takes adapters while it runs, as vLLM does (`--enable-lora` and
VLLM_ALLOW_RUNTIME_LORA_UPDATING): a fast engine in an environment of its own, over HTTP.

Prompts and answers cross as tokens, so nothing is lost to a template. Does not cover: all weights, which no such server takes, and random
numbers of our own: a step that is made again after a crash may draw other answers.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gradients.errors import OutsideError
from gradients.ml.adapters import write_adapter
from gradients.ml.rollouts import Rollout, RolloutSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_AT_ONCE = 16  # prompts on their way; the server puts them together
_SECONDS = 600.0  # for one prompt's answers, and for loading an adapter


class _Choice(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    token_ids: list[int] = Field(min_length=1)


class _Completion(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    choices: list[_Choice]


class RolloutServer:
    """One server, which has the base and is given the adapter as it is before each step."""

    def __init__(self, url: str, *, folder: Path) -> None:
        """Args:
        url: up to /v1.
        folder: for adapters; the server has to see it under the same path.
        """
        self._client = httpx.Client(base_url=url.rstrip("/"), timeout=_SECONDS)
        self._folder = folder
        self._loaded = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def draw(
        self, model: PreTrainedModel, prompts: Sequence[list[int]], settings: RolloutSettings, *, seed: int
    ) -> list[list[Rollout]]:
        """Each prompt's answers by the model as it is now. Raises OutsideError when the server does not give them."""
        name = self._bring(model)
        with ThreadPoolExecutor(_AT_ONCE) as asking:
            return list(asking.map(lambda prompt: self._answers(name, prompt, settings, seed=seed), prompts))

    def _bring(self, model: PreTrainedModel) -> str:
        """Have the server load the adapter, under a name that no other had, and forget the one before."""
        self._loaded += 1
        name, folder = f"step-{self._loaded}", self._folder / f"step-{self._loaded}"
        folder.mkdir(parents=True, exist_ok=True)
        write_adapter(model, folder, base_name="base")
        self._post("/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.absolute())})
        if self._loaded > 1:
            before = f"step-{self._loaded - 1}"
            self._post("/unload_lora_adapter", {"lora_name": before})
            shutil.rmtree(self._folder / before, ignore_errors=True)
        return name

    def _answers(self, name: str, prompt: list[int], settings: RolloutSettings, *, seed: int) -> list[Rollout]:
        asked = {
            "model": name,
            "prompt": prompt,
            "n": settings.samples,
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "stop_token_ids": list(settings.stop_tokens),
            "return_token_ids": True,
            "seed": seed % 2**31,
        }
        try:
            told = _Completion.model_validate_json(self._post("/completions", asked).content)
        except ValidationError as error:
            raise OutsideError(
                f"The rollout server's answer has no tokens: {error.errors()[0]['msg']}",
                fix="Use a server that knows `return_token_ids`, such as vLLM 0.10.2 or newer",
            ) from error
        if len(told.choices) != settings.samples:
            raise OutsideError(f"The rollout server gave {len(told.choices)} answers of {settings.samples}")
        return [
            Rollout(prompt, each.token_ids, finished=each.token_ids[-1] in settings.stop_tokens)
            for each in told.choices
        ]

    def _post(self, path: str, body: dict[str, object]) -> httpx.Response:
        try:
            return self._client.post(path, json=body).raise_for_status()
        except httpx.HTTPStatusError as error:
            said = " ".join(error.response.text.split())[:200]
            problem = f"{error.response.status_code}: {said}"
        except httpx.HTTPError as error:
            problem = f"{type(error).__name__}: {error}"
        raise OutsideError(
            f"The rollout server does not do {path}: {problem}",
            fix="Start it with the task's base and with adapters at run time, or leave `rollout_server` out",
        )
