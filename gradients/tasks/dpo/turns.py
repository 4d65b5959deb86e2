"""Preferences whose prompt and answers are written as lists of turns, which is how most public ones are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from gradients.datasets.columns import cell
from gradients.datasets.rows import Row
from gradients.tasks.texts import NotText, as_text
from gradients.tasks.turns import Turn, TurnMalformed, are_turns, dialogue, read_turns


class _Answer(NamedTuple):
    """One side's conversation."""

    before: Sequence[Turn]  # what stands in front of its answer
    text: str


class Words(NamedTuple):
    """A row in words."""

    cells: Row  # by column
    system: str | None = None  # what the turns have for one
    history: Sequence[JsonValue] = ()  # {"prompt", "completion"} of what was said before the prompt


def in_words(row: Row, columns: Mapping[str, str]) -> Words:
    """What a row says. Raises TurnMalformed for turns that say no preference.

    The prompt may be text or turns, or stand in front of both answers, the same before each; then a prompt column may repeat it.

    Args:
        columns: role -> column.
    """
    given = {role: row.get(column) for role, column in columns.items()}
    if not any(are_turns(given.get(role)) for role in ("prompt", "chosen", "rejected")):
        return Words({columns[role]: _text(value) for role, value in given.items()})
    chosen, rejected = _answer(given["chosen"]), _answer(given["rejected"])
    if chosen.before != rejected.before:
        raise TurnMalformed(
            "prompts_differ", "says something else before its answer than the rejected one does", "Give both one prompt"
        )
    before = _prompt(given.get("prompt"), chosen.before)
    said = dialogue([*before, Turn("assistant", "an answer")])
    *history, last = said.exchanges or (None,)
    cells = {"prompt": last.prompt if last else "", "chosen": chosen.text, "rejected": rejected.text}
    return Words(
        {**{columns[role]: value for role, value in given.items()}, **{columns[role]: cells[role] for role in cells}},
        said.system,
        [{"prompt": each.prompt, "completion": each.completion} for each in history if each],
    )


def _answer(value: JsonValue) -> _Answer:
    if not are_turns(value):
        return _Answer((), _word(value))
    turns = read_turns(value)
    if turns[-1].role != "assistant":
        raise TurnMalformed("no_answer", "does not end with what the assistant answers", "Put the answer last")
    return _Answer(turns[:-1], turns[-1].content)


def _prompt(value: JsonValue, before: Sequence[Turn]) -> Sequence[Turn]:
    """What was said before the answers: as the prompt's column has it, or as the answers' own conversations do."""
    text = "" if are_turns(value) else _word(value)
    asked = [Turn("user", text)] if text else read_turns(value) if are_turns(value) else []
    if not before:
        return asked
    repeats = list(before) == list(asked) or (len(asked) == 1 and asked[0] in before)
    if asked and not repeats:
        raise TurnMalformed(
            "prompts_differ", "says something else before its answer than the prompt does", "Give the prompt once"
        )
    return before


def _word(value: JsonValue) -> str:
    text = _text(value)
    if not isinstance(text, str | int | float | None):
        raise TurnMalformed(
            "wrong_type", "has neither text nor turns beside it", "Write all three as text, or as turns"
        )
    return cell(text)


def _text(value: JsonValue) -> JsonValue:
    try:
        return as_text(value)
    except NotText as error:
        raise TurnMalformed("part_not_text", f"has {error}", "Write text alone") from error
