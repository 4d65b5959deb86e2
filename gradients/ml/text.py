"""From rows of text to tokens, in the base model's own chat format."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gradients.domain.dialogue import Frames, Shape, thought_once
from gradients.errors import DatasetInvalid, TaskInvalid
from gradients.ml.markup import Markup

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AnyRow = TypeVar("AnyRow", bound=BaseModel)

# How dialogues are written for a base without a template: plain lines.
PLAIN = (
    "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% if not loop.last %}{{ '\n\n' }}{% endif %}"
    "{% else %}{{ '\n\n' if m.role == 'system' else '\n' }}{% endif %}{% endfor %}"
)


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


class Exchange(BaseModel):
    """A prompt and its answer."""

    model_config = ConfigDict(frozen=True)

    prompt: str
    completion: str
    learn: bool = Field(default=True, description="whether the answer counts where answers do")


class ChatFormat:
    """How one base model wants a prompt and its answer written: its chat template, or plain lines where it has none.

    Whose the template is does not matter: it runs under limits and never sees a text (gradients/sandbox/templates.py).
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, *, without_template: str = PLAIN, vocabulary: int | None = None
    ) -> None:
        """Args:
        without_template: the template for a base that has none.
        vocabulary: how many tokens the base tells apart; rows with others are refused.
        """
        self._tokenizer = tokenizer
        self._markup = Markup(tokenizer, without_template=without_template, vocabulary=vocabulary)

    def prompt(
        self, *, system: str | None, prompt: str, history: Sequence[Exchange] = (), answers: Sequence[str] = ()
    ) -> str:
        """The text up to where the answer begins; what is a control token of the base in somebody's text is parted there.

        Args:
            history: what was said before.
            answers: what may come behind it; one that brings its own think block is not put behind another.
        """
        before = (text for each in history for text in (each.prompt, each.completion))
        said = [*([system] if system else []), *before, prompt]
        *around, opening = self._frames(system=bool(system), exchanges=len(history) + 1)[: len(said) + 1]
        for answer in answers:
            opening = thought_once(opening, answer)
        plain = self._markup.plain
        return "".join(frame + plain(text) for frame, text in zip(around, said, strict=True)) + opening

    def encode(self, rows: Sequence[PromptRow], *, max_tokens: int) -> list[Example]:
        """The rows as tokens. Raises DatasetInvalid for rows that the base cannot read, TaskInvalid for a base that cannot write them.

        A row that is too long loses the beginning of its prompt; its completion is cut only when it alone is too long.
        """
        prompts = self._markup.tokens(
            [self.prompt(system=row.system, prompt=row.prompt, answers=[row.completion]) for row in rows]
        )
        completions = self.answer_tokens([row.completion for row in rows])
        self.check_known([prompt + answer for prompt, answer in zip(prompts, completions, strict=True)])
        return [self.fit(prompt, answer, max_tokens) for prompt, answer in zip(prompts, completions, strict=True)]

    def prompt_tokens(
        self, *, system: str | None, prompt: str, history: Sequence[Exchange] = (), answers: Sequence[str] = ()
    ) -> list[int]:
        """What a model continues when it answers; see `prompt`."""
        return self._markup.tokens([self.prompt(system=system, prompt=prompt, history=history, answers=answers)])[0]

    def answer_tokens(self, answers: Sequence[str]) -> list[list[int]]:
        """What a model should write behind a prompt: each answer with its end of turn."""
        return self._markup.tokens([self._markup.plain(answer) + self._end for answer in answers])

    def cut(self, prompt: list[int], most: int) -> list[int]:
        """A prompt of at most so many tokens: it loses its beginning, but for a first token that the base wants before everything."""
        return cut(prompt, most, lead=self._lead)

    def fit(self, prompt: list[int], completion: list[int], max_tokens: int) -> Example:
        """See `fit` of this module."""
        return fit(prompt, completion, max_tokens, lead=self._lead)

    def check_known(self, rows: Sequence[list[int]]) -> None:
        """Raises DatasetInvalid that names the rows with tokens that the base does not know."""
        self._markup.check_known(rows)

    @property
    def stop_tokens(self) -> list[int]:
        """Tokens that end an answer."""
        ending = self._markup.tokens([self._end])[0]
        return sorted({ending[0], self._tokenizer.eos_token_id} - {None})

    @property
    def _lead(self) -> int:
        return 1 if self._markup.begin else 0

    @cached_property
    def _end(self) -> str:
        try:
            behind = self._frames(system=False, exchanges=1)[-1]
        except TaskInvalid:  # a template that wants a system message
            behind = self._frames(system=True, exchanges=1)[-1]
        return self._markup.end(behind)

    def _frames(self, *, system: bool, exchanges: int) -> Frames:
        shape = Shape(system, exchanges)
        return self._markup.frames([shape])[shape]


def cut(prompt: list[int], most: int, *, lead: int = 0) -> list[int]:
    """A prompt's last `most` tokens; where it is too long, its first `lead` ones stay."""
    if len(prompt) <= most:
        return prompt
    lead = min(lead, most - 1)
    return prompt[:lead] + prompt[len(prompt) - most + lead :]


def fit(prompt: list[int], completion: list[int], max_tokens: int, *, lead: int = 0) -> Example:
    """A row of one answer that has at most `max_tokens`: the prompt loses its beginning, the answer its end, the prompt first."""
    completion = completion[: max_tokens - 1]  # a token is only predicted when another stands before it
    return answered(cut(prompt, max_tokens - len(completion), lead=lead), completion)
