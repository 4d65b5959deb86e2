"""From dialogues of several turns to tokens, of which those of the answers count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from gradients.domain.dialogue import BEGIN_OF_TEXT, END_OF_TEXT, Shape, thought_once
from gradients.ml.markup import Markup
from gradients.ml.text import PLAIN, Example, Exchange, fit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# How families of models write dialogues, by turn markers that stand in their vocabularies. A base that was never taught to chat has
# the markers of its family, but often no template. Written as the families' own templates write a dialogue of plain turns.
_FAMILIES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("<|im_start|>", "<|im_end|>"),  # ChatML: Qwen, SmolLM, Yi
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ),
    (
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),  # Llama 3
        "{{ bos_token }}{% for m in messages %}"
        "{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    ),
    (
        ("<start_of_turn>", "<end_of_turn>"),  # Gemma, which does not support system messages
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else 'user') + '\n' + m.content + '<end_of_turn>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    ),
    (
        ("<|user|>", "<|assistant|>", "<|end|>"),  # Phi 3
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    ),
    (
        ("[INST]", "[/INST]"),  # Mistral; system messages go with the first prompt
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ m.content + eos_token }}{% endif %}"
        "{% endfor %}",
    ),
)


class DialogueRow(BaseModel):
    """One row of a chat task in its normal form."""

    model_config = ConfigDict(frozen=True)

    system: str | None = None
    exchanges: tuple[Exchange, ...] = Field(min_length=1)
    frames: tuple[str, ...] | None = Field(default=None, description="layout of a customer's own template")

    @property
    def shape(self) -> Shape:
        """Which turns the dialogue has."""
        return Shape(system=self.system is not None, exchanges=len(self.exchanges))


class _Written(NamedTuple):
    """A dialogue as text."""

    head: str  # what stands before the first prompt
    prompts: list[str]  # each up to where its answer begins
    gaps: list[str]  # what stands before each prompt but the first
    answers: list[str]  # each with its end of turn
    learn: list[bool]  # whether each answer counts; the last one does


def family_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """How dialogues are written for a base without a template of its own: as its family does, or as plain lines."""
    known = tokenizer.get_vocab()
    return next((template for markers, template in _FAMILIES if all(m in known for m in markers)), PLAIN)


class DialogueFormat:
    """How one base model wants dialogues written: its chat template, its family's, or plain lines.

    A customer's template is never here, only what it puts around the turns (`frames`); a base's own runs under the same limits.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, vocabulary: int | None = None) -> None:
        """Args:
        vocabulary: how many tokens the base tells apart; rows with others are refused.
        """
        self._tokenizer = tokenizer
        self._markup = Markup(tokenizer, without_template=family_template(tokenizer), vocabulary=vocabulary)

    def encode(self, rows: Sequence[DialogueRow], *, max_tokens: int) -> list[Example]:
        """The rows as tokens; every answer that is to be learnt counts, with its end of turn.

        A row that is too long loses its oldest exchanges, each as a whole; the system message stays. When the last one alone is too
        long, it loses the beginning of what stands before its answer; the answer is cut only when it alone is too long. Raises
        TaskInvalid when the base's template cannot write dialogues, and DatasetInvalid for rows with tokens that it does not know.
        """
        self._markup.frames({row.shape for row in rows if not row.frames})  # all at once: each time takes a process
        examples = [self._fit(self._written(row), max_tokens) for row in rows]
        self._markup.check_known([example.tokens for example in examples])
        return examples

    def _fit(self, text: _Written, max_tokens: int) -> Example:
        answers = self._markup.tokens(text.answers)
        later = self._markup.tokens([gap + prompt for gap, prompt in zip(text.gaps, text.prompts[1:], strict=True)])
        left = sum(map(len, [*answers, *later]))  # tokens behind the opening prompt
        for first, prompt in enumerate(text.prompts):
            if left <= max_tokens or first == len(later):
                [opening] = self._markup.tokens([text.head + prompt])
                if len(opening) + left <= max_tokens:
                    tokens, spans = list[int](), list[range]()
                    for number, before in enumerate([opening, *later[first:]], start=first):
                        start = len(tokens) + len(before)
                        tokens += before + answers[number]
                        spans += [range(start, len(tokens))] if text.learn[number] else []
                    return Example(tokens, tuple(spans))
            if first < len(later):
                left -= len(answers[first]) + len(later[first])
        return fit(opening, answers[-1], max_tokens, lead=1 if self._markup.begin else 0)

    def _written(self, row: DialogueRow) -> _Written:
        if row.frames:
            # a customer's template did not know the base, whose own first and last token these are
            begin, end = (str(token or "") for token in (self._tokenizer.bos_token, self._tokenizer.eos_token))
            head, *rest = (text.replace(BEGIN_OF_TEXT, begin).replace(END_OF_TEXT, end) for text in row.frames)
            head = self._markup.begun(head)
        else:
            head, *rest = self._markup.frames([row.shape])[row.shape]
        plain = self._markup.plain
        if row.system is not None:
            head, rest = head + plain(row.system) + rest[0], rest[1:]
        before = [thought_once(text, each.completion) for text, each in zip(rest[0::2], row.exchanges, strict=True)]
        behind = rest[1::2]
        end = self._markup.end(behind[-1])
        ends = [end if text.startswith(end) else "" for text in behind[:-1]]
        return _Written(
            head=head,
            prompts=[plain(each.prompt) + text for each, text in zip(row.exchanges, before, strict=True)],
            gaps=[text.removeprefix(end) for text in behind[:-1]],
            answers=[plain(each.completion) + end for each, end in zip(row.exchanges, [*ends, end], strict=True)],
            learn=[each.learn for each in row.exchanges],
        )
