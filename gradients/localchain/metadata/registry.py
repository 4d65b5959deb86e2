"""The metadata's list of types, each numbered once."""

from __future__ import annotations

from typing import Any

from gradients.localchain.scale.compact import encode_compact
from gradients.localchain.scale.types import Described, Numbers, Type, encode_text


class Registry(Numbers):
    """Numbers types in the order in which they are first asked for."""

    def __init__(self) -> None:
        self._numbers: dict[Type[Any], int] = {}  # Any: every type has a number, whatever its values are
        self._entries: list[bytes] = []

    def number(self, type_: Type[Any]) -> int:
        known = self._numbers.get(type_)
        if known is not None:
            return known
        number = self._numbers[type_] = len(self._entries)
        self._entries.append(b"")  # holds the place: describing may number the types inside
        self._entries[number] = self._entry(type_.describe(self))
        return number

    def encode(self) -> bytes:
        """All types, each with its number."""
        lines = b"".join(encode_compact(number) + entry for number, entry in enumerate(self._entries))
        return encode_compact(len(self._entries)) + lines

    def _entry(self, described: Described) -> bytes:
        path = described.path.split("::") if described.path else []
        parameters = b"".join(
            encode_text(name) + (b"\0" if type_ is None else b"\1" + encode_compact(self.number(type_)))
            for name, type_ in described.parameters
        )
        names = encode_compact(len(path)) + b"".join(map(encode_text, path))
        return names + encode_compact(len(described.parameters)) + parameters + described.definition + b"\0"
