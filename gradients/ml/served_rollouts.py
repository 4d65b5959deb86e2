"""Answers drawn by an OpenAI-compatible server that takes adapters while it runs, as vLLM does (`--enable-lora` and
VLLM_ALLOW_RUNTIME_LORA_UPDATING): a fast engine in an environment of its own, over HTTP.

Prompts and answers cross as tokens, so nothing is lost to a template. Does not cover: all weights, which no such server takes, and random
numbers of our own: a step that is made again after a crash may draw other answers. Several tasks may share a server: every adapter has a
name of its own, and is there for one step only; what a killed process left there is unloaded by the one that goes on.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gradients.errors import OutsideError
from gradients.log import get_logger
from gradients.ml.adapters import write_adapter
from gradients.ml.rollouts import Rollout, RolloutSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_AT_ONCE = 16  # prompts on their way; the server puts them together
# Said, since a server else takes what the base's own generation config says.
_WHOLE_DISTRIBUTION = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
_SECONDS = 600.0  # for one prompt's answers, and for loading an adapter

log = get_logger("training")


class _Choice(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    token_ids: list[int] = Field(min_length=1)


class _Completion(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    choices: list[_Choice]


class RolloutServer:
    """One server, which has the base and is given the adapter as it is before each step."""

    def __init__(self, url: str, *, folder: Path, task: str) -> None:
        """Args:
        url: up to /v1.
        folder: of this training alone, for adapters; the server has to see it under the same path.
        task: for people who read the server's log.
        """
        self._client = httpx.Client(base_url=url.rstrip("/"), timeout=_SECONDS)
        self._folder = folder
        self._prefix = (
            f"{task}-{secrets.token_hex(4)}"  # another process of the task may have died with its adapter loaded
        )
        self._loaded = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def draw(
        self, model: PreTrainedModel, prompts: Sequence[list[int]], settings: RolloutSettings, *, seed: int
    ) -> list[list[Rollout]]:
        """Each prompt's answers by the model as it is now. Raises OutsideError when the server does not give them."""
        with self._brought(model) as name, ThreadPoolExecutor(_AT_ONCE) as asking:
            return list(asking.map(lambda prompt: self._answers(name, prompt, settings, seed=seed), prompts))

    @contextmanager
    def _brought(self, model: PreTrainedModel) -> Iterator[str]:
        """The context in which the server has the adapter as it is now, under a name that no other ever had."""
        if not self._loaded:
            for left in self._folder.glob("*"):  # by a process that was killed
                self._take_away(left.name)
        self._loaded += 1
        name = f"{self._prefix}-{self._loaded}"
        folder = self._folder / name
        folder.mkdir(parents=True)
        write_adapter(model, folder, base_name="base")
        try:
            self._post("/load_lora_adapter", {"lora_name": name, "lora_path": str(folder.absolute())})
            yield name
        finally:
            self._take_away(name)

    def _take_away(self, name: str) -> None:
        """Have the server forget an adapter, if it can be: a server that was started anew has none, and one that is gone says nothing."""
        try:
            self._post("/unload_lora_adapter", {"lora_name": name})
        except OutsideError as error:
            log.warning("adapter_not_unloaded", adapter=name, problem=str(error))
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def _answers(self, name: str, prompt: list[int], settings: RolloutSettings, *, seed: int) -> list[Rollout]:
        asked = {
            "model": name,
            "prompt": prompt,
            "n": settings.samples,
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            **_WHOLE_DISTRIBUTION,
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
