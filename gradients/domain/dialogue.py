"""How a chat template lays a dialogue out, found out without showing it a word of one: its turns are marks, and what stands around
the marks is kept.

A dialogue is a system message, or none, and then exchanges of a prompt and an answer.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

from gradients.errors import TaskInvalid

Messages = list[dict[str, str]]
Frames = tuple[str, ...]  # texts before, between and behind the turns, one more than there are turns

# Characters of a private area, which no template writes itself.
BEGIN_OF_TEXT, END_OF_TEXT = "\uf8f5", "\uf8f6"  # stand for tokens of a base that is not known yet
_MARK = "\uf8f7{}\uf8f7"
_MARKS = re.compile("\uf8f7([0-9]+)\uf8f7")
_THOUGHT = re.compile(r"<think>\s*(?:</think>\s*)?\Z")


class Render(Protocol):
    """A chat template at work. Raises TaskInvalid when it takes no such dialogue."""

    def __call__(self, messages: Messages, *, add_generation_prompt: bool) -> str:
        """The dialogue as text, up to where an answer begins when that is asked for."""


class Shape(NamedTuple):
    """Which turns a dialogue has."""

    system: bool
    exchanges: int

    def __str__(self) -> str:
        many = "1 exchange" if self.exchanges == 1 else f"{self.exchanges} exchanges"
        return f"{many} {'with' if self.system else 'without'} a system message"


def frames(render: Render, shape: Shape) -> Frames:
    """What the template puts around the turns of such a dialogue.

    A template that does not write a system message, or writes it elsewhere, gets it at the head of the first prompt, a blank line between
    them. The last answer begins where a model begins to answer, so what a template writes there only of answers that it knows, such as
    an empty think block, is not in the frames. Raises TaskInvalid when the template does not write each turn once and in order.
    """
    if not shape.system:
        return _frames(render, shape)
    try:
        return _frames(render, shape)
    except TaskInvalid:
        head, *rest = _frames(render, Shape(system=False, exchanges=shape.exchanges))
        return (head, "\n\n", *rest)


def thought_once(frame: str, answer: str) -> str:
    """What stands before an answer: an answer that brings its own think block is not put behind another one."""
    return _THOUGHT.sub("", frame) if answer.startswith("<think>") else frame


def _frames(render: Render, shape: Shape) -> Frames:
    roles = [*(["system"] if shape.system else []), *["user", "assistant"] * shape.exchanges]
    messages = [{"role": role, "content": _MARK.format(number)} for number, role in enumerate(roles)]
    whole = _around(messages, render(messages, add_generation_prompt=False))
    asked = messages[:-1]
    try:
        opened = render(asked, add_generation_prompt=True)
        if opened == render(asked, add_generation_prompt=False):
            return whole  # a template that knows no generation prompt
        opening = _around(asked, opened)
    except TaskInvalid:  # a template that wants an answer behind each prompt
        return whole
    return (*opening, whole[-1]) if opening[:-1] == whole[:-2] else whole


def _around(messages: Messages, text: str) -> Frames:
    parts = _MARKS.split(text)  # texts at even positions, the marks' numbers between them
    if parts[1::2] != [str(number) for number in range(len(messages))]:
        raise TaskInvalid(
            "The chat template does not write every turn once and in order",
            code="template_unusable",
            fix="It may put text around the turns, but must not drop, repeat or move them",
        )
    return tuple(parts[0::2])
