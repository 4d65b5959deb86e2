"""From rows of text to tokens, in the base model's own chat format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from jinja2 import TemplateError
from pydantic import BaseModel, ConfigDict, ValidationError

from gradients.errors import DatasetInvalid

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AnyRow = TypeVar("AnyRow", bound=BaseModel)

_MARK = "\u2603"  # stands for an answer while we look at what a template puts behind it


class PromptRow(BaseModel):
    """One row of an instruct task in its normal form."""

    model_config = ConfigDict(frozen=True)

    system: str | None = None
    prompt: str
    completion: str


class Example(NamedTuple):
    """A row as tokens."""

    tokens: list[int]
    spans: tuple[range, ...]  # positions of the tokens that count: the answers with their ends of turn

    @property
    def counted(self) -> int:
        """How many tokens count; the very first one never does, because nothing stands before it."""
        return sum(len(span) for span in self.spans)


def answered(prompt: list[int], completion: list[int]) -> Example:
    """A row of one answer."""
    tokens = prompt + completion
    return Example(tokens, (range(len(prompt), len(tokens)),))


def read_prompt_rows(path: Path) -> list[PromptRow]:
    """The rows of an instruct task's file; see `read_jsonl_of`."""
    return read_jsonl_of(PromptRow, path)


def read_jsonl_of(row_type: type[AnyRow], path: Path) -> list[AnyRow]:
    """The rows of a JSON lines file, in its order. Raises DatasetInvalid that names the first bad line, or when there is none at all."""
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                rows.append(row_type.model_validate_json(line))
            except ValidationError as error:
                raise DatasetInvalid(f"Line {number} of {path.name} is not a row: {error}", rows=(number,)) from error
    if not rows:
        raise DatasetInvalid(f"{path.name} has no rows")
    return rows


class ChatFormat:
    """How one base model wants dialogues written: its chat template, or plain lines where it has none.

    The template belongs to our pinned base and is trusted; no text of a miner is ever a template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, template: str | None = None) -> None:
        """Args:
        template: how dialogues are written, instead of the base's own way.
        """
        self._tokenizer = tokenizer
        self._template = template
        self._plain = not (template or tokenizer.chat_template)
        self._takes_system = self._try_system()
        self._end = str(tokenizer.eos_token)
        if not self._plain:
            # what the template puts behind an answer, such as "<|im_end|>", without the line end after it
            dialogue = [{"role": "user", "content": "-"}, {"role": "assistant", "content": _MARK}]
            self._end = self._render(dialogue).rpartition(_MARK)[2].rstrip() or self._end

    def prompt(self, *, system: str | None, prompt: str) -> str:
        """The text up to where the answer begins."""
        if self._plain:
            return "\n\n".join(part for part in (system, prompt) if part) + "\n"
        if system and not self._takes_system:
            system, prompt = None, f"{system}\n\n{prompt}"
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": prompt})
        return self._render(messages, add_generation_prompt=True)

    def encode(self, rows: Sequence[PromptRow], *, max_tokens: int) -> list[Example]:
        """The rows as tokens.

        A row that is too long loses the beginning of its prompt; its completion is cut only when it alone is too long.
        """
        prompts = self._tokens([self.prompt(system=row.system, prompt=row.prompt) for row in rows])
        completions = self.answer_tokens([row.completion for row in rows])
        return [fit(prompt, answer, max_tokens) for prompt, answer in zip(prompts, completions, strict=True)]

    def prompt_tokens(self, *, system: str | None, prompt: str) -> list[int]:
        """What a model continues when it answers."""
        return self._tokens([self.prompt(system=system, prompt=prompt)])[0]

    def answer_tokens(self, answers: Sequence[str]) -> list[list[int]]:
        """What a model should write behind a prompt: each answer with its end of turn."""
        return self._tokens([answer + self._end for answer in answers])

    @property
    def stop_tokens(self) -> list[int]:
        """Tokens that end an answer."""
        ending = self._tokens([self._end])[0]
        return sorted({ending[0], self._tokenizer.eos_token_id})

    def _tokens(self, texts: list[str]) -> list[list[int]]:
        # Templates write their special tokens themselves; adding them again would put two at the start.
        tokens: list[list[int]] = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        return tokens

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool = False) -> str:
        text: str = self._tokenizer.apply_chat_template(
            messages, chat_template=self._template, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return text

    def _try_system(self) -> bool:
        """Whether the template supports system messages; some refuse them, some drop them silently."""
        if self._plain:
            return True
        messages = [{"role": "system", "content": _MARK}, {"role": "user", "content": "-"}]
        try:
            return _MARK in self._render(messages)
        except TemplateError:
            return False


def fit(prompt: list[int], completion: list[int], max_tokens: int) -> Example:
    """A row of one answer that has at most `max_tokens`: the prompt loses its beginning, the answer its end, the prompt first."""
    completion = completion[: max_tokens - 1]  # a token is only predicted when another stands before it
    room = max_tokens - len(completion)
    return answered(prompt[-room:], completion)
