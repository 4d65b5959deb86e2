"""How a chat template lays a dialogue out, found out without showing it a word of one: its turns are marks, and what stands around
the marks is kept.

A dialogue is a system message, or none, and then exchanges of a prompt and an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from gradients.errors import TaskInvalid

Messages = list[dict[str, str]]
Render = Callable[[Messages], str]  # raises TaskInvalid when the template takes no such dialogue
Frames = tuple[str, ...]  # texts before, between and behind the turns, one more than there are turns

# Characters of a private area, which no template writes itself.
BEGIN_OF_TEXT, END_OF_TEXT = "\uf8f5", "\uf8f6"  # stand for tokens of a base that is not known yet
_MARK = "\uf8f7{}\uf8f7"
_MARKS = re.compile("\uf8f7([0-9]+)\uf8f7")


class Shape(NamedTuple):
    """Which turns a dialogue has."""

    system: bool
    exchanges: int


def frames(render: Render, shape: Shape) -> Frames:
    """What the template puts around the turns of such a dialogue.

    A template that does not write a system message, or writes it elsewhere, gets it at the head of the first prompt, a blank line between
    them. Raises TaskInvalid when the template does not write each turn once and in order.
    """
    if not shape.system:
        return _frames(render, shape)
    try:
        return _frames(render, shape)
    except TaskInvalid:
        head, *rest = _frames(render, Shape(system=False, exchanges=shape.exchanges))
        return (head, "\n\n", *rest)


def _frames(render: Render, shape: Shape) -> Frames:
    roles = [*(["system"] if shape.system else []), *["user", "assistant"] * shape.exchanges]
    messages = [{"role": role, "content": _MARK.format(number)} for number, role in enumerate(roles)]
    parts = _MARKS.split(render(messages))  # texts at even positions, the marks' numbers between them
    if parts[1::2] != [str(number) for number in range(len(messages))]:
        raise TaskInvalid(
            "The chat template does not write every turn once and in order",
            code="template_unusable",
            fix="It may put text around the turns, but must not drop, repeat or move them",
        )
    return tuple(parts[0::2])
