"""SCALE types from Python type hints, so that a record or a call is declared once and checked by the type checker.

`U16` and its kin are `int` to the type checker and carry their SCALE type along. Lists, tuples, `bytes`, `bool`, `X | None` and
dataclasses with a `PATH` (where the chain's metadata says the type lives) are understood too.
"""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from gradients.localchain.scale.choices import OptionOf
from gradients.localchain.scale.types import (
    Boolean,
    ByteVector,
    Compact,
    Field,
    FixedBytes,
    Integer,
    Record,
    TupleOf,
    Type,
    Vector,
    Wrapped,
)

U8 = Annotated[int, Integer(1)]
U16 = Annotated[int, Integer(2)]
U32 = Annotated[int, Integer(4)]
U64 = Annotated[int, Integer(8)]
U128 = Annotated[int, Integer(16)]
I16 = Annotated[int, Integer(2, signed=True)]
I64 = Annotated[int, Integer(8, signed=True)]
I128 = Annotated[int, Integer(16, signed=True)]
CompactU8 = Annotated[int, Compact(Integer(1))]
CompactU16 = Annotated[int, Compact(Integer(2))]
CompactU64 = Annotated[int, Compact(Integer(8))]
CompactU128 = Annotated[int, Compact(Integer(16))]

ACCOUNT: Type[bytes] = Wrapped("sp_core::crypto::AccountId32", FixedBytes(32))
HASH: Type[bytes] = Wrapped("primitive_types::H256", FixedBytes(32))
Account = Annotated[bytes, ACCOUNT]
Hash = Annotated[bytes, HASH]

Hint = Any  # a type hint: a class or one of typing's special forms, which share no type


def annotated(cls: type[Any], type_: Type[Any]) -> Hint:
    """The hint of a Python class that is encoded as `type_`."""
    return Annotated[cls, type_]


@cache
def scale(hint: Hint) -> Type[Any]:
    """The SCALE type of a hint. Raises TypeError for a hint that has none."""
    origin: Any = get_origin(hint)  # a special form, which no type checker follows
    arguments = get_args(hint)
    if origin is Annotated:
        return next(extra for extra in arguments[1:] if isinstance(extra, Type))
    if origin in (Union, types.UnionType) and len(arguments) == 2 and arguments[1] is type(None):
        return OptionOf(scale(arguments[0]))
    if origin is list:
        return Vector(scale(arguments[0]))
    if origin is tuple:
        return TupleOf(tuple(scale(argument) for argument in arguments))
    if hint is bool:
        return Boolean()
    if hint is bytes:
        return ByteVector()
    if is_dataclass(hint):
        cls = typing.cast("type[Any]", hint)
        hints = get_type_hints(cls, include_extras=True)
        parts = tuple(Field(field.name, scale(hints[field.name])) for field in fields(cls))
        return Record(cls.PATH, parts, cls, getattr(cls, "PARAMETERS", ()))
    raise TypeError(f"{hint!r} has no SCALE type")


def bounded(hint: Hint) -> Type[Any]:
    """`BoundedVec<item>`: the bytes of a list with a name of its own around them, as the chain's metadata has it."""
    item = scale(hint)
    return Wrapped("bounded_collections::bounded_vec::BoundedVec", Vector(item), (("T", item), ("S", None)))


BoundedBytes = Annotated[
    bytes,
    Wrapped("bounded_collections::bounded_vec::BoundedVec", ByteVector(), (("T", Integer(1)), ("S", None))),
]
