"""The SCALE types that this chain needs. Each one encodes and decodes values, and describes itself to the metadata.

Types are values: two that describe the same thing are equal, so the metadata's registry numbers each of them once.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from gradients.localchain.scale.compact import Reader, encode_compact

T = TypeVar("T")

PRIMITIVES = (
    "bool",
    "char",
    "str",
    "u8",
    "u16",
    "u32",
    "u64",
    "u128",
    "u256",
    "i8",
    "i16",
    "i32",
    "i64",
    "i128",
    "i256",
)


class Described(NamedTuple):
    """What the metadata says of a type: where it is defined, its type parameters, and its definition's bytes."""

    definition: bytes
    path: str = ""
    parameters: tuple[tuple[str, Type[Any] | None], ...] = ()  # Any: parameters are only named, never used


class Numbers(ABC):
    """Gives each type its number in the metadata."""

    @abstractmethod
    def number(self, type_: Type[Any]) -> int:  # Any: every type has a number, whatever its values are
        """The number of `type_`, which is added when it is new."""


class Type(ABC, Generic[T]):
    """Encodes and decodes values of `T`. `packed` is the struct format of types with a fixed layout, else empty."""

    packed: str = ""

    @abstractmethod
    def encode(self, value: T) -> bytes:
        """SCALE bytes. Raises ValueError, TypeError, struct.error or OverflowError for a value that doesn't fit."""

    @abstractmethod
    def decode(self, reader: Reader) -> T:
        """The value at the reader's position, which moves on. Raises ValueError when the bytes end early."""

    @abstractmethod
    def describe(self, numbers: Numbers) -> Described:
        """The type's entry in the metadata."""


def primitive(name: str) -> Described:
    """The description of one of SCALE's own types."""
    return Described(b"\5" + bytes([PRIMITIVES.index(name)]))


@dataclass(frozen=True)
class Integer(Type[int]):
    """A little-endian integer of `width` bytes."""

    width: int
    signed: bool = False

    @property
    def packed(self) -> str:  # type: ignore[override]  # a class attribute elsewhere, computed here
        code = {1: "b", 2: "h", 4: "i", 8: "q"}.get(self.width, "")
        return code if self.signed else code.upper()

    def encode(self, value: int) -> bytes:
        return value.to_bytes(self.width, "little", signed=self.signed)

    def decode(self, reader: Reader) -> int:
        return int.from_bytes(reader.take(self.width), "little", signed=self.signed)

    def describe(self, numbers: Numbers) -> Described:
        return primitive(f"{'i' if self.signed else 'u'}{self.width * 8}")


@dataclass(frozen=True)
class Boolean(Type[bool]):
    """One byte, 0 or 1."""

    packed = "?"

    def encode(self, value: bool) -> bytes:
        return b"\1" if value else b"\0"

    def decode(self, reader: Reader) -> bool:
        return reader.take(1) != b"\0"

    def describe(self, numbers: Numbers) -> Described:
        return primitive("bool")


@dataclass(frozen=True)
class Compact(Type[int]):
    """An unsigned integer in as few bytes as it needs."""

    of: Type[Any] = Integer(8)  # Any: `()` may stand here, whose values are never read

    def encode(self, value: int) -> bytes:
        return encode_compact(value)

    def decode(self, reader: Reader) -> int:
        return reader.compact()

    def describe(self, numbers: Numbers) -> Described:
        return Described(b"\6" + encode_compact(numbers.number(self.of)))


@dataclass(frozen=True)
class FixedBytes(Type[bytes]):
    """Exactly `size` bytes."""

    size: int

    def encode(self, value: bytes) -> bytes:
        if len(value) != self.size:
            raise ValueError(f"{len(value)} bytes where {self.size} belong")
        return value

    def decode(self, reader: Reader) -> bytes:
        return reader.take(self.size)

    def describe(self, numbers: Numbers) -> Described:
        return Described(b"\3" + struct.pack("<I", self.size) + encode_compact(numbers.number(Integer(1))))


@dataclass(frozen=True)
class ByteVector(Type[bytes]):
    """Any number of bytes, with their count before them."""

    def encode(self, value: bytes) -> bytes:
        return encode_compact(len(value)) + value

    def decode(self, reader: Reader) -> bytes:
        return reader.take(reader.compact())

    def describe(self, numbers: Numbers) -> Described:
        return Described(b"\2" + encode_compact(numbers.number(Integer(1))))


@dataclass(frozen=True)
class Vector(Type["list[T]"], Generic[T]):
    """Any number of items, with their count before them."""

    item: Type[T]

    def encode(self, value: list[T]) -> bytes:
        return encode_compact(len(value)) + b"".join(map(self.item.encode, value))

    def decode(self, reader: Reader) -> list[T]:
        count = reader.compact()
        layout = self.item.packed
        if not layout:
            return [self.item.decode(reader) for _ in range(count)]
        size = struct.calcsize("<" + layout)
        rows: Any = struct.iter_unpack(
            "<" + layout, reader.take(count * size)
        )  # Any: struct cannot know the item's type
        return list(rows) if isinstance(self.item, TupleOf) else [row[0] for row in rows]

    def describe(self, numbers: Numbers) -> Described:
        return Described(b"\2" + encode_compact(numbers.number(self.item)))


@dataclass(frozen=True)
class TupleOf(Type["tuple[Any, ...]"]):  # Any: the items' types differ
    """One value of each type, one after another; `()` has none."""

    items: tuple[Type[Any], ...] = ()

    @property
    def packed(self) -> str:  # type: ignore[override]
        layouts = [item.packed for item in self.items]
        return "".join(layouts) if all(layouts) else ""

    def encode(self, value: Sequence[Any]) -> bytes:
        return b"".join(item.encode(part) for item, part in zip(self.items, value, strict=True))

    def decode(self, reader: Reader) -> tuple[Any, ...]:
        return tuple(item.decode(reader) for item in self.items)

    def describe(self, numbers: Numbers) -> Described:
        inner = b"".join(encode_compact(numbers.number(item)) for item in self.items)
        return Described(b"\4" + encode_compact(len(self.items)) + inner)


UNIT = TupleOf()


class Field(NamedTuple):
    """A part of a record or of an enum's variant; tuple-like parts have no name."""

    name: str | None
    type: Type[Any]  # Any: parts differ

    def described(self, numbers: Numbers) -> bytes:
        name = b"\0" if self.name is None else b"\1" + encode_text(self.name)
        return name + encode_compact(numbers.number(self.type)) + b"\0\0"


def encode_text(text: str) -> bytes:
    """UTF-8 with its length before it."""
    data = text.encode()
    return encode_compact(len(data)) + data


@dataclass(frozen=True)
class Record(Type[T], Generic[T]):
    """Named parts; `make` builds the Python value from them."""

    path: str
    fields: tuple[Field, ...]
    make: Callable[..., T]
    parameters: tuple[tuple[str, Type[Any] | None], ...] = ()

    def encode(self, value: T) -> bytes:
        if isinstance(value, Mapping):
            return b"".join(field.type.encode(value[field.name]) for field in self.fields)
        return b"".join(field.type.encode(getattr(value, str(field.name))) for field in self.fields)

    def decode(self, reader: Reader) -> T:
        return self.make(**{str(field.name): field.type.decode(reader) for field in self.fields})

    def describe(self, numbers: Numbers) -> Described:
        parts = b"".join(field.described(numbers) for field in self.fields)
        return Described(b"\0" + encode_compact(len(self.fields)) + parts, self.path, self.parameters)


@dataclass(frozen=True)
class Wrapped(Type[T], Generic[T]):
    """A type with a name of its own around one unnamed part: the same bytes as the part."""

    path: str
    inner: Type[T]
    parameters: tuple[tuple[str, Type[Any] | None], ...] = ()

    def encode(self, value: T) -> bytes:
        return self.inner.encode(value)

    def decode(self, reader: Reader) -> T:
        return self.inner.decode(reader)

    def describe(self, numbers: Numbers) -> Described:
        return Described(
            b"\0" + encode_compact(1) + Field(None, self.inner).described(numbers), self.path, self.parameters
        )
