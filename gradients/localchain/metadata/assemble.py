"""Metadata V15, as `frame-metadata` lays it out: types, pallets, extrinsic, runtime APIs, outer enums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from gradients.localchain.metadata.registry import Registry
from gradients.localchain.pallets.declare import ApiMethod, Constant, Pallet, Storage
from gradients.localchain.scale.choices import Enum, Variant
from gradients.localchain.scale.compact import encode_compact
from gradients.localchain.scale.types import UNIT, Field, TupleOf, Type, encode_text

MAGIC = b"meta\x0f"
EXTRINSIC_VERSION = 4


class SignedExtension(NamedTuple):
    """What a transaction carries besides its call, and what its signature covers besides that."""

    name: str
    extra: Type[Any]  # Any: extensions differ
    additional: Type[Any]


class Outline(NamedTuple):
    """Everything that the metadata says."""

    pallets: Sequence[Pallet]
    apis: Sequence[ApiMethod]
    extensions: Sequence[SignedExtension]
    address: Type[Any]
    signature: Type[Any]


def call_enum(pallet: Pallet) -> Enum:
    """All calls of a pallet."""
    lines = tuple(Variant(call.index, call.name, call.parameters) for call in pallet.calls)
    return Enum(f"pallet_{pallet.name.lower()}::pallet::Call", lines, (("T", None),))


def event_enum(pallet: Pallet) -> Enum:
    """All events of a pallet."""
    lines = tuple(Variant(event.index, event.name, event.fields) for event in pallet.events)
    return Enum(f"pallet_{pallet.name.lower()}::pallet::Event", lines, (("T", None),))


def error_enum(pallet: Pallet) -> Enum:
    """All errors of a pallet."""
    lines = tuple(Variant(error.number, error.name) for error in pallet.errors)
    return Enum(f"pallet_{pallet.name.lower()}::pallet::Error", lines, (("T", None),))


def outer_call(pallets: Iterable[Pallet]) -> Enum:
    """Any call of the runtime."""
    return _outer("RuntimeCall", [(pallet, call_enum(pallet)) for pallet in pallets if pallet.calls])


def outer_event(pallets: Iterable[Pallet]) -> Enum:
    """Any event of the runtime."""
    return _outer("RuntimeEvent", [(pallet, event_enum(pallet)) for pallet in pallets if pallet.events])


def outer_error(pallets: Iterable[Pallet]) -> Enum:
    """Any error of the runtime."""
    return _outer("RuntimeError", [(pallet, error_enum(pallet)) for pallet in pallets if pallet.errors])


def assemble(outline: Outline) -> bytes:
    """The metadata's bytes. The types come first in them, but are complete only when everything else is written."""
    registry = Registry()
    pallets = _vector(_pallet(registry, pallet) for pallet in outline.pallets)
    extrinsic = _extrinsic(registry, outline)
    runtime = encode_compact(registry.number(UNIT))
    apis = _apis(registry, outline.apis)
    outer = b"".join(
        encode_compact(registry.number(enum(outline.pallets))) for enum in (outer_call, outer_event, outer_error)
    )
    custom = encode_compact(0)
    return MAGIC + registry.encode() + pallets + extrinsic + runtime + apis + outer + custom


def _outer(name: str, inner: Sequence[tuple[Pallet, Enum]]) -> Enum:
    lines = tuple(Variant(pallet.index, pallet.name, (Field(None, enum),)) for pallet, enum in inner)
    return Enum(f"node_subtensor_runtime::{name}", lines)


def _vector(items: Iterable[bytes]) -> bytes:
    parts = list(items)
    return encode_compact(len(parts)) + b"".join(parts)


def _pallet(registry: Registry, pallet: Pallet) -> bytes:
    def optional(declared: Sequence[object], enum: Enum) -> bytes:
        return b"\1" + encode_compact(registry.number(enum)) if declared else b"\0"

    entries = _vector(_storage(registry, item) for item in pallet.storage)
    return b"".join(
        (
            encode_text(pallet.name),
            b"\1" + encode_text(pallet.name) + entries if pallet.storage else b"\0",
            optional(pallet.calls, call_enum(pallet)),
            optional(pallet.events, event_enum(pallet)),
            _vector(_constant(registry, constant) for constant in pallet.constants),
            optional(pallet.errors, error_enum(pallet)),
            bytes([pallet.index]) + b"\0",
        )
    )


def _storage(registry: Registry, item: Storage[Any]) -> bytes:
    value = encode_compact(registry.number(item.type))
    if item.keys:
        types = tuple(key.type for key in item.keys)
        key = registry.number(types[0] if len(types) == 1 else TupleOf(types))
        hashers = _vector(bytes([key.hasher]) for key in item.keys)
        kind = b"\1" + hashers + encode_compact(key) + value
    else:
        kind = b"\0" + value
    default = item.default_bytes
    modifier = b"\0" if item.optional else b"\1"
    return encode_text(item.name) + modifier + kind + encode_compact(len(default)) + default + b"\0"


def _constant(registry: Registry, constant: Constant) -> bytes:
    value = constant.type.encode(constant.value)
    number = encode_compact(registry.number(constant.type))
    return encode_text(constant.name) + number + encode_compact(len(value)) + value + b"\0"


def _extrinsic(registry: Registry, outline: Outline) -> bytes:
    types = (outline.address, outer_call(outline.pallets), outline.signature, UNIT)
    extensions = _vector(
        encode_text(each.name)
        + encode_compact(registry.number(each.extra))
        + encode_compact(registry.number(each.additional))
        for each in outline.extensions
    )
    return bytes([EXTRINSIC_VERSION]) + b"".join(encode_compact(registry.number(each)) for each in types) + extensions


def _apis(registry: Registry, methods: Sequence[ApiMethod]) -> bytes:
    def method(each: ApiMethod) -> bytes:
        inputs = _vector(encode_text(str(f.name)) + encode_compact(registry.number(f.type)) for f in each.inputs)
        return encode_text(each.name) + inputs + encode_compact(registry.number(each.output)) + b"\0"

    by_api = groupby(sorted(methods, key=lambda each: each.api), key=lambda each: each.api)
    return _vector(encode_text(api) + _vector(map(method, group)) + b"\0" for api, group in by_api)
