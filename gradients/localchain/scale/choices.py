"""SCALE enums: one of several variants, each with parts of its own. `Option` is one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

from gradients.localchain.scale.compact import Reader, encode_compact
from gradients.localchain.scale.types import Described, Field, Numbers, Type, encode_text

T = TypeVar("T")


class Choice(NamedTuple):
    """One variant of an enum, and its parts in order."""

    variant: str
    parts: tuple[Any, ...] = ()  # Any: parts differ by variant


class Variant(NamedTuple):
    """One line of an enum's declaration."""

    number: int
    name: str
    fields: tuple[Field, ...] = ()

    def described(self, numbers: Numbers) -> bytes:
        fields = b"".join(field.described(numbers) for field in self.fields)
        return encode_text(self.name) + encode_compact(len(self.fields)) + fields + bytes([self.number]) + b"\0"


def plain(*names: str) -> tuple[Variant, ...]:
    """Variants without parts, numbered from 0."""
    return tuple(Variant(number, name) for number, name in enumerate(names))


@dataclass(frozen=True)
class Enum(Type[Choice]):
    """One of `variants`, told apart by their first byte."""

    path: str
    variants: tuple[Variant, ...]
    parameters: tuple[tuple[str, Type[Any] | None], ...] = ()  # Any: parameters are only named

    @cached_property
    def _by_name(self) -> Mapping[str, Variant]:
        return {variant.name: variant for variant in self.variants}

    @cached_property
    def _by_number(self) -> Mapping[int, Variant]:
        return {variant.number: variant for variant in self.variants}

    def encode(self, value: Choice) -> bytes:
        variant = self._by_name[value.variant]
        parts = zip(variant.fields, value.parts, strict=True)
        return bytes([variant.number]) + b"".join(field.type.encode(part) for field, part in parts)

    def decode(self, reader: Reader) -> Choice:
        number = reader.take(1)[0]
        if number not in self._by_number:
            raise ValueError(f"{self.path} has no variant {number}")
        variant = self._by_number[number]
        return Choice(variant.name, tuple(field.type.decode(reader) for field in variant.fields))

    def describe(self, numbers: Numbers) -> Described:
        lines = b"".join(variant.described(numbers) for variant in self.variants)
        return Described(b"\1" + encode_compact(len(self.variants)) + lines, self.path, self.parameters)


@dataclass(frozen=True)
class OptionOf(Type["T | None"], Generic[T]):
    """A value or nothing."""

    inner: Type[T]

    def encode(self, value: T | None) -> bytes:
        return b"\0" if value is None else b"\1" + self.inner.encode(value)

    def decode(self, reader: Reader) -> T | None:
        return None if reader.take(1) == b"\0" else self.inner.decode(reader)

    def describe(self, numbers: Numbers) -> Described:
        none, some = Variant(0, "None"), Variant(1, "Some", (Field(None, self.inner),))
        definition = b"\1" + encode_compact(2) + none.described(numbers) + some.described(numbers)
        return Described(definition, "Option", (("T", self.inner),))
