"""JSON as a type, and the one byte form of it that is hashed and signed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Union

Json = Union[None, bool, int, float, str, Sequence["Json"], Mapping[str, "Json"]]  # noqa: UP007 (a recursive name)
JsonObject = Mapping[str, Json]


def canonical(value: Json) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no spaces; NaN and infinity are refused with ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
