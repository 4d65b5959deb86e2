"""JSON from strangers, read so that it means one thing to everybody: UTF-8, no key twice, no NaN, no bottomless nesting."""

from __future__ import annotations

import json


def strict_json(raw: bytes | str) -> object:
    """The value that `raw` is. Raises ValueError, whatever is wrong with it."""
    text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
    try:
        return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")
