"""Arguments that name files, for a worker that finds them elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from gradients.domain.json import Json, JsonObject


def relocated(arguments: JsonObject, places: Mapping[Path, Path]) -> JsonObject:
    """`arguments` with every text that is one of `places`, or a path below one, changed into what it maps to; the deepest place counts.

    Only values are looked at, and only whole ones: a path inside a longer text stays.
    """
    deepest_first = sorted(
        ((str(here), str(there)) for here, there in places.items()), key=lambda pair: len(pair[0]), reverse=True
    )
    return cast(JsonObject, _relocated(arguments, deepest_first))


def _relocated(value: Json, places: Sequence[tuple[str, str]]) -> Json:
    if isinstance(value, str):
        for here, there in places:
            if value == here or value.startswith(f"{here}/"):
                return there + value[len(here) :]
        return value
    if isinstance(value, Mapping):
        return {name: _relocated(inner, places) for name, inner in value.items()}
    if isinstance(value, Sequence):
        return [_relocated(inner, places) for inner in value]
    return value
