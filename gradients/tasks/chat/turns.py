"""From the turns of a conversation, as data sets write them, to the exchanges of a dialogue."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, cast

from pydantic import JsonValue

from gradients.datasets.columns import LONGEST_CELL, cell

Role = Literal["system", "user", "assistant"]
# What data sets call the speakers, and the keys of a turn: ShareGPT's spelling and OpenAI's.
USUAL_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
ROLE_KEYS, CONTENT_KEYS = ("from", "role"), ("value", "content")


class TurnMalformed(ValueError):
    """A conversation that cannot be read. `code` and `what` are the same for equal mistakes, so that rows can be named together."""

    def __init__(self, code: str, what: str, fix: str) -> None:
        super().__init__(what)
        self.code, self.what, self.fix = code, what, fix


class Spelling(NamedTuple):
    """How a data set writes a turn."""

    roles: Mapping[str, Role]
    role_keys: Sequence[str] = ROLE_KEYS
    content_keys: Sequence[str] = CONTENT_KEYS


class Turn(NamedTuple):
    """What one side says at a time."""

    role: Role
    content: str


class Dialogue(NamedTuple):
    """A conversation in its normal form."""

    system: str | None
    exchanges: tuple[tuple[str, str], ...]  # prompt and answer


def read_turns(value: JsonValue, spelling: Spelling) -> list[Turn]:
    """The turns in a cell: a list of objects, or the same as JSON text, which is how tables hold it. Raises TurnMalformed."""
    if isinstance(value, str) and value.strip():
        try:
            value = cast(JsonValue, json.loads(value))
        except (ValueError, RecursionError) as error:
            raise TurnMalformed("wrong_type", "is not a list of turns", "Write the list as JSON") from error
    if not value:
        return []
    if not isinstance(value, list):
        raise TurnMalformed("wrong_type", "is not a list of turns", 'Write [{"from": "human", "value": "…"}, …]')
    return [_turn(entry, spelling) for entry in value]


def dialogue(turns: Iterable[Turn]) -> Dialogue:
    """The system message and the exchanges.

    What one speaker says several times in a row becomes one turn. What the assistant says before anybody asked, and what is left
    without an answer, is dropped; from a side that says nothing on nothing counts. Raises TurnMalformed for a system message in the middle.
    """
    joined = [
        Turn(role, "\n\n".join(turn.content for turn in said if turn.content))
        for role, said in itertools.groupby(turns, key=lambda turn: turn.role)
    ]
    system = joined[0].content if joined and joined[0].role == "system" else ""
    rest = joined[1:] if joined and joined[0].role == "system" else joined
    if any(turn.role == "system" for turn in rest):
        raise TurnMalformed("system_late", "has a system message behind another turn", "Put it first, or remove it")
    asked = rest[1:] if rest and rest[0].role == "assistant" else rest
    exchanges = [(prompt.content, answer.content) for prompt, answer in zip(asked[0::2], asked[1::2], strict=False)]
    return Dialogue(system or None, tuple(itertools.takewhile(all, exchanges)))


def _turn(entry: JsonValue, spelling: Spelling) -> Turn:
    if not isinstance(entry, dict):
        raise TurnMalformed("wrong_type", "has a turn that is not an object", 'Write {"from": …, "value": …}')
    name = _one_of(entry, spelling.role_keys, problem="does not say who speaks", parameter="keys.role")
    content = _one_of(entry, spelling.content_keys, problem="has a turn without its text", parameter="keys.content")
    if not isinstance(name, str) or not isinstance(content, str | int | float | None):
        raise TurnMalformed("wrong_type", "has a turn that is not text", "Write who speaks and what is said as text")
    if name not in spelling.roles:
        raise TurnMalformed(
            "role_unknown",
            f"has turns of '{name[:40]}'",
            "Map it: --set roles.user=… or roles.assistant=… or roles.system=…",
        )
    if len(cell(content)) > LONGEST_CELL:
        raise TurnMalformed(
            "turn_too_long", f"has a turn of more than {LONGEST_CELL:,} characters", "Split or remove it"
        )
    return Turn(spelling.roles[name], cell(content))


def _one_of(entry: Mapping[str, JsonValue], keys: Sequence[str], *, problem: str, parameter: str) -> JsonValue:
    for key in keys:
        if key in entry:
            return entry[key]
    there = ", ".join(sorted(entry))[:80]
    raise TurnMalformed(
        "turn_key_missing", f"{problem}; there is {there or 'nothing'}", f"Name the key: --set {parameter}=…"
    )
