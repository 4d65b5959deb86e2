"""A validator that changes one value of its record, and signs again whatever comes after it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gradients.domain.json import Json
from gradients.record.models import FIRST_PREVIOUS, Part, Record
from gradients.record.reading import RecordUnreadable
from gradients.record.sealing import sealed
from gradients.repo.store import ContentStore

Path_ = tuple[str | int, ...]


class Raw(Part):
    """A body that is signed as it is, whatever it holds."""

    def model_dump(self, **_: object) -> dict[str, Any]:
        return dict(self.model_extra or {})


Raw.model_config["extra"] = "allow"
Raw.model_rebuild(force=True)


class InMemory:
    """Records as a source, and bytes from a store."""

    def __init__(self, records: Sequence[Record], blobs: Path) -> None:
        self._records, self._store = records, ContentStore(blobs)

    def records(self, *, after: int = 0) -> Iterator[Record]:
        yield from (record for record in self._records if record.seq > after)

    def blob(self, sha256: str, into: Path) -> Path:
        if not self._store.has(sha256):
            raise RecordUnreadable(f"There are no bytes {sha256[:12]}…")
        return self._store.path(sha256)


def leaves(value: Json, under: Path_ = ()) -> Iterator[tuple[Path_, Json]]:
    """Every value that is not an object or a list of something, by its path."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, (*under, name))
    elif isinstance(value, list) and value:
        for place, each in enumerate(value):
            yield from leaves(each, (*under, place))
    else:
        yield under, value


def pattern(path: Path_) -> str:
    """The path with its list places as stars."""
    return ".".join("*" if isinstance(step, int) else step for step in path)


def changed(record: Record, path: Path_, value: Json) -> dict[str, Any]:
    """The record's body with another value at the path."""
    body: Any = copy.deepcopy(record.body)
    inner = body
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    return dict(body)


def signed_again(records: Sequence[Record], place: int, body: dict[str, Any], keypair: Any) -> list[Record]:  # noqa: ANN401
    """The chain with another body at one place, whole and well signed."""
    chain: list[Record] = []
    for number, record in enumerate(records):
        content = body if number == place else record.body
        previous = chain[-1].sha256 if chain else FIRST_PREVIOUS
        chain.append(
            sealed(
                keypair, seq=record.seq, kind=record.kind, previous_sha256=previous, body=Raw.model_validate(content)
            )
        )
    return chain


def another(value: Json) -> Json:
    """Something else of the same kind, as close as a cheat would choose."""
    if value is None:
        return 1
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 1.01 + 1e-3
    if isinstance(value, str):
        if not value:
            return "x"
        others = {"lower": "higher", "higher": "lower", "miner": "operator", "operator": "miner", "outside": "miner"}
        last = "0" if value[-1] != "0" else "1"
        return others.get(value, value[:-1] + last)
    return [] if value else ["x"]
