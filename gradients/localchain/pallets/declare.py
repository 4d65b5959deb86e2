"""The words in which pallets are declared. The declarations are read twice: to build the metadata, and to run the chain."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

from gradients.localchain.scale.compact import Reader
from gradients.localchain.scale.hints import Hint, scale
from gradients.localchain.scale.types import Field, Type

T = TypeVar("T")


class Hasher(IntEnum):
    """How a map's key becomes part of a storage key; each of these keeps the key itself readable at the end."""

    BLAKE2_128_CONCAT = 2
    TWOX_64_CONCAT = 5
    IDENTITY = 6

    @property
    def hash_bytes(self) -> int:
        """Bytes that stand before the key itself."""
        return {Hasher.BLAKE2_128_CONCAT: 16, Hasher.TWOX_64_CONCAT: 8, Hasher.IDENTITY: 0}[self]


class Key(NamedTuple):
    """One key of a storage map."""

    hasher: Hasher
    type: Type[Any]  # Any: keys differ


@dataclass(frozen=True, eq=False)
class Storage(Generic[T]):
    """One storage item: a value, or a map when it has keys. `default` is read where nothing was written."""

    pallet: str
    name: str
    type: Type[T]
    default: T
    keys: tuple[Key, ...] = ()
    optional: bool = False

    @property
    def default_bytes(self) -> bytes:
        """The default as the metadata carries it."""
        return b"\0" if self.optional else self.type.encode(self.default)


class ErrorKind(NamedTuple):
    """One line of a pallet's error table."""

    pallet_index: int
    number: int
    name: str


@dataclass(frozen=True)
class EventKind:
    """One kind of event."""

    pallet_index: int
    index: int
    name: str
    fields: tuple[Field, ...]

    def encode(self, *values: object) -> bytes:
        """The event's bytes, pallet and number included."""
        parts = zip(self.fields, values, strict=True)
        return bytes([self.pallet_index, self.index]) + b"".join(part.type.encode(value) for part, value in parts)


@dataclass(frozen=True)
class Call:
    """One call: its number in the pallet, its name, its parameters, and the function that carries it out."""

    index: int
    name: str
    parameters: tuple[Field, ...]
    handler: Callable[..., None]

    def decode(self, reader: Reader) -> dict[str, Any]:  # Any: parameters differ
        """The call's arguments by name. Raises ValueError for bytes of another shape."""
        return {str(parameter.name): parameter.type.decode(reader) for parameter in self.parameters}


def call(index: int, handler: Callable[..., None], *, name: str | None = None) -> Call:
    """A call whose parameters are the handler's own, after the first (which says who calls and where)."""
    hints = get_type_hints(handler, include_extras=True)
    names = list(inspect.signature(handler).parameters)[1:]
    return Call(index, name or handler.__name__, tuple(Field(each, scale(hints[each])) for each in names), handler)


class Constant(NamedTuple):
    """A value that is part of the metadata."""

    name: str
    type: Type[Any]  # Any: constants differ
    value: Any


@dataclass(frozen=True)
class Pallet:
    """One pallet of the runtime."""

    name: str
    index: int
    storage: tuple[Storage[Any], ...] = ()  # Any: items differ
    calls: tuple[Call, ...] = ()
    events: tuple[EventKind, ...] = ()
    errors: tuple[ErrorKind, ...] = ()
    constants: tuple[Constant, ...] = ()


class ApiMethod(NamedTuple):
    """One method of a runtime API: what `state_call` takes and answers."""

    api: str
    name: str
    inputs: tuple[Field, ...]
    output: Type[Any]  # Any: answers differ

    @property
    def full_name(self) -> str:
        """The name in `state_call`."""
        return f"{self.api}_{self.name}"


def api_method(api: str, name: str, output: Hint, **inputs: Hint) -> ApiMethod:
    """A runtime API's method, from type hints."""
    return ApiMethod(api, name, tuple(Field(each, scale(hint)) for each, hint in inputs.items()), scale(output))


def events(
    pallet_index: int, table: Mapping[int, tuple[str, Mapping[str, Hint] | tuple[Hint, ...]]]
) -> dict[str, EventKind]:
    """A pallet's events by name, from a table of index -> (name, parts). Parts without names are given as a tuple."""
    kinds = {}
    for index, (name, parts) in table.items():
        named = ((None, hint) for hint in parts) if isinstance(parts, tuple) else parts.items()
        kinds[name] = EventKind(pallet_index, index, name, tuple(Field(each, scale(hint)) for each, hint in named))
    return kinds


def errors(pallet_index: int, table: Mapping[str, int]) -> dict[str, ErrorKind]:
    """A pallet's errors by name, from a table of name -> number."""
    return {name: ErrorKind(pallet_index, number, name) for name, number in table.items()}
