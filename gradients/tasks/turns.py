"""Conversations as data sets write them, and what they say: for every task type whose rows may be turns of speakers.

What is not read is refused by row, never left out in silence: parts that are not text, calls of tools, thoughts beside the text. What is
left out (a prompt that nobody answered) is counted.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar, cast

from pydantic import JsonValue

from gradients.datasets.columns import LONGEST_CELL, cell
from gradients.datasets.rows import Row, numbers
from gradients.datasets.spool import Made
from gradients.errors import DatasetInvalid
from gradients.tasks.texts import NotText, as_text

Role = Literal["system", "user", "assistant"]
Result = TypeVar("Result")

# What data sets call the speakers, and the keys of a turn: ShareGPT's spelling and OpenAI's.
USUAL_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
ROLE_KEYS, CONTENT_KEYS = ("from", "role"), ("value", "content")
# Keys that say whether a turn is to be learnt (OpenAI's and Mistral's; axolotl's, ms-swift's), and those that say the opposite.
_LEARN_KEYS, _MASK_KEYS = ("weight", "train", "training", "loss"), ("mask", "masked")
_YES_OR_NO: Mapping[str, bool] = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
# Keys under which a turn says more than its text.
_TOOLS = ("tool_calls", "function_call", "tool_call_id")
_MORE = (
    *("reasoning_content", "reasoning", "thinking", "refusal", "train_detail"),
    *("audio", "audios", "image", "images", "video", "videos"),
)
UNANSWERED, UNASKED, UNLEARNT = "prompts without an answer", "answers without a prompt", "last answers not to be learnt"


class TurnMalformed(ValueError):
    """A conversation that cannot be read. `code` and `what` are the same for equal mistakes, so that rows can be named together."""

    def __init__(self, code: str, what: str, fix: str) -> None:
        super().__init__(what)
        self.code, self.what, self.fix = code, what, fix


class Spelling(NamedTuple):
    """How a data set writes a turn."""

    roles: Mapping[str, Role] = USUAL_ROLES
    role_keys: Sequence[str] = ROLE_KEYS
    content_keys: Sequence[str] = CONTENT_KEYS


class Turn(NamedTuple):
    """What one side says at a time."""

    role: Role
    content: str
    learn: bool = True


class Said(NamedTuple):
    """A prompt and its answer."""

    prompt: str
    completion: str
    learn: bool = True  # whether the answer is


class Dialogue(NamedTuple):
    """A conversation in its normal form."""

    system: str | None
    exchanges: tuple[Said, ...]  # the last one is to be learnt
    dropped: Mapping[str, int]  # turns that were left out, by reason


def read_each(rows: Sequence[Row], read: Callable[[Row], Result], *, column: str) -> Sequence[Result]:
    """What every row is read as, anew whenever it is asked for. Raises DatasetInvalid that names all rows with the first kind of mistake.

    Args:
        read: raises TurnMalformed for a row that cannot be read.
        column: what messages name.
    """
    wrong: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for number, row in enumerate(rows, start=1):
        try:
            read(row)
        except TurnMalformed as error:
            wrong[error.code, error.what, error.fix].append(number)
    for (code, what, fix), at in wrong.items():
        raise DatasetInvalid(f"Column '{column}' {what} in rows {numbers(at)}", rows=at, code=code, fix=fix)
    return Made(rows, read)


def are_turns(value: JsonValue) -> bool:
    """Whether a cell holds a list of turns, or the same as JSON text, where texts are read too.

    A text that happens to be JSON is a text: only known speakers who say something make turns of it.
    """
    if not isinstance(value, str):
        return _all_speak(value, ROLE_KEYS)
    if not value.lstrip().startswith("["):
        return False
    try:
        told = cast(JsonValue, json.loads(value))
    except (ValueError, RecursionError):
        return False
    return _all_speak(told, ROLE_KEYS, USUAL_ROLES) and _all_speak(told, CONTENT_KEYS)


def _all_speak(value: JsonValue, keys: Sequence[str], known: Collection[str] = ()) -> bool:
    """Whether a list holds objects alone, each with one of the keys, whose value is a known one where some are."""

    def speaks(turn: JsonValue) -> bool:
        return isinstance(turn, dict) and any(key in turn and (not known or turn[key] in known) for key in keys)

    return isinstance(value, list) and bool(value) and all(map(speaks, value))


def read_turns(value: JsonValue, spelling: Spelling = Spelling()) -> list[Turn]:  # noqa: B008 (a tuple)
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

    What one speaker says several times in a row becomes one turn. An answer that nobody asked for, a prompt that nobody answered, and last
    answers that are not to be learnt are left out and counted. Raises TurnMalformed for a system message in the middle, and for what
    the assistant says in a row that is to be learnt in part.
    """
    joined = [_joined(list(said)) for _, said in itertools.groupby(turns, key=lambda turn: turn.role)]
    system = joined.pop(0).content if joined and joined[0].role == "system" else ""
    if any(turn.role == "system" for turn in joined):
        raise TurnMalformed("system_late", "has a system message behind another turn", "Put it first, or remove it")
    exchanges, dropped = list[Said](), Counter[str]()
    prompt = ""
    for turn in joined:
        if turn.role == "user":
            dropped[UNANSWERED] += bool(prompt)
            prompt = turn.content
        elif prompt and turn.content:
            exchanges.append(Said(prompt, turn.content, turn.learn))
            prompt = ""
        elif turn.content:
            dropped[UNASKED] += 1
    dropped[UNANSWERED] += bool(prompt)
    while exchanges and not exchanges[-1].learn:
        exchanges.pop()
        dropped[UNLEARNT] += 1
    return Dialogue(system or None, tuple(exchanges), {reason: many for reason, many in dropped.items() if many})


def _joined(said: Sequence[Turn]) -> Turn:
    """One turn of what one speaker says in a row."""
    learn = {turn.learn for turn in said if turn.content}
    if said[0].role == "assistant" and len(learn) > 1:
        raise TurnMalformed(
            "learnt_in_part",
            "has answers of several turns of which only some are to be learnt",
            "Put a prompt between them, or say the same of all",
        )
    return Turn(said[0].role, "\n\n".join(turn.content for turn in said if turn.content), learn != {False})


def _turn(entry: JsonValue, spelling: Spelling) -> Turn:
    if not isinstance(entry, dict):
        raise TurnMalformed("wrong_type", "has a turn that is not an object", 'Write {"from": …, "value": …}')
    _refuse_more(entry)
    name = _one_of(entry, spelling.role_keys, problem="does not say who speaks", parameter="keys.role")
    said = _one_of(entry, spelling.content_keys, problem="has a turn without its text", parameter="keys.content")
    try:
        content = as_text(said)
    except NotText as error:
        raise TurnMalformed("part_not_text", f"has a turn with {error}", "Write text alone") from error
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
    role = spelling.roles[name]
    return Turn(role, cell(content), _to_learn(entry, role))


def _refuse_more(entry: Mapping[str, JsonValue]) -> None:
    """Raises TurnMalformed for a turn that says something which is not in its text."""
    for key in _TOOLS:
        if entry.get(key):
            raise TurnMalformed(
                "tool_calls",
                f"has turns with '{key}'; what is done there is not in the text",
                "Write the call into the text, or remove these conversations",
            )
    for key in _MORE:
        if entry.get(key):
            raise TurnMalformed(
                "turn_says_more", f"has turns with '{key}', which is not read", "Write it into the text, or remove it"
            )


def _to_learn(entry: Mapping[str, JsonValue], role: Role) -> bool:
    """Whether a turn is to be learnt, by all keys that say so. What users and systems say never is."""
    learn = True
    for key in (*_LEARN_KEYS, *_MASK_KEYS):
        if (value := entry.get(key)) is None:
            continue
        said = _YES_OR_NO.get(str(value).lower()) if isinstance(value, bool | int | float | str) else None
        if said is None:
            raise TurnMalformed("weight_unknown", f"has a '{key}' that is neither 0 nor 1", "Write 0 or 1")
        said = said is (key in _LEARN_KEYS)
        if said and role != "assistant" and key not in ("weight", *_MASK_KEYS):
            raise TurnMalformed(
                "prompt_learnt", f"says by '{key}' that a prompt is to be learnt", "Only answers are; remove the key"
            )
        learn &= said
    return learn


def _one_of(entry: Mapping[str, JsonValue], keys: Sequence[str], *, problem: str, parameter: str) -> JsonValue:
    for key in keys:
        if key in entry:
            return entry[key]
    there = ", ".join(sorted(entry))[:80]
    raise TurnMalformed(
        "turn_key_missing", f"{problem}; there is {there or 'nothing'}", f"Name the key: --set {parameter}=…"
    )
