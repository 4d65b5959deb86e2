"""JSON as a type, and the one byte form of it that is hashed and signed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Union

from gradients.texts import MOST_CHARACTERS, harmless, storable

Json = Union[None, bool, int, float, str, Sequence["Json"], Mapping[str, "Json"]]  # noqa: UP007 (a recursive name)
JsonObject = Mapping[str, Json]


def canonical(value: Json) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no spaces; NaN and infinity are refused with ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def check_storable(value: object) -> None:
    """Raises ValueError that names the place of what no database and no JSON takes: NUL, half a character, NaN, infinity."""
    found: list[tuple[str, object]] = [("", value)]  # no recursion: the value may be as deep as a request can make it
    while found:
        where, inner = found.pop()
        if isinstance(inner, str) and storable(inner) != inner:
            raise ValueError(f"{where or 'it'} holds a NUL or half a character, which is not text")
        if isinstance(inner, float) and not math.isfinite(inner):
            raise ValueError(f"{where or 'it'} is not a finite number")
        if isinstance(inner, Mapping):
            found += [(f"a name in {where or 'it'}", name) for name in inner]
            found += [(_below(where, harmless(str(name), most=64)), each) for name, each in inner.items()]
        elif isinstance(inner, list | tuple):
            found += [(_below(where, str(number)), each) for number, each in enumerate(inner)]


def _below(where: str, name: str) -> str:
    return f"{where}.{name}" if where and len(where) < MOST_CHARACTERS else name
