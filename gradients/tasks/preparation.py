"""From a source of rows to two files by digest: the train rows that miners get, and the held-out rows that nobody else sees."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from pydantic import JsonValue

from gradients.datasets.access import OUTSIDERS, Access, SynthesisEndpoint
from gradients.datasets.downloads import Deadline
from gradients.datasets.merging import Merged, clean_each, counts, merge
from gradients.datasets.reading import fetch, read_file
from gradients.datasets.rows import Cleaned, Numbered, Row
from gradients.datasets.sources import DatasetLimits, MergedSource, Source, parse_source, parts_of
from gradients.datasets.splits import Split, split
from gradients.datasets.spool import Made, Spool
from gradients.datasets.synthesis import Synthetic, ask, draw, fit
from gradients.domain.json import canonical
from gradients.domain.task import Blob, SourceCount, TaskRequest
from gradients.files.disk import writing
from gradients.files.whole import make_folder, whole_file
from gradients.tasks.base import TaskType

TRAIN_FILE, HELDOUT_FILE = "train.jsonl", "held_out.jsonl"

Fetched = Sequence[Path]  # where each source of a request lies, in the order of `_sources`


class PreparedData(NamedTuple):
    """What preparation leaves in its folder."""

    train_file: Path
    held_out_file: Path
    train: Blob
    held_out: Blob
    train_rows: int
    held_out_rows: int
    held_out_commitment: str  # see the function of this name
    removed: tuple[tuple[str, int], ...]
    made_up_rows: int  # of the held-out ones, the last so many
    sources: tuple[SourceCount, ...] = ()  # of several data sets that were merged
    shown: Sequence[Sequence[str]] = ()  # train rows to show whoever writes synthetic rows, request by request


def prepare(
    kind: TaskType,
    request: TaskRequest,
    *,
    salt: bytes,
    folder: Path,
    limits: DatasetLimits = DatasetLimits(),  # noqa: B008 (frozen)
    access: Access = OUTSIDERS,
    endpoint: SynthesisEndpoint | None = None,
) -> PreparedData:
    """Fetch, read, clean, deduplicate and split, all in this process: for one's own data.

    The same request and salt leave the same bytes, but for the synthetic rows of `endpoint`. Raises DatasetInvalid for data that cannot be
    used, OutsideError when its hub does not answer, and OperatorError when the disk refuses.
    """
    with tempfile.TemporaryDirectory(prefix="gradients-rows-") as fetched:
        sources = fetch_sources(kind, request, Path(fetched), limits=limits, access=access)
        prepared = prepare_fetched(
            kind, request, sources, salt=salt, folder=folder, limits=limits, show_rows=endpoint.rows if endpoint else 0
        )
        if endpoint is None or not (written := ask(endpoint, prepared.shown)):
            return prepared
        return prepare_fetched(kind, request, sources, salt=salt, folder=folder, limits=limits, written=written)


def fetch_sources(
    kind: TaskType,
    request: TaskRequest,
    folder: Path,
    *,
    limits: DatasetLimits = DatasetLimits(),  # noqa: B008 (frozen)
    access: Access = OUTSIDERS,
    deadline: Deadline | None = None,
) -> Fetched:
    """Where each source of the request lies on this machine afterwards; rows of a URL or a store are not parsed here.

    All of them share the limit on bytes and the deadline. Raises DatasetInvalid for what cannot be had or is too large, OutsideError, also
    at the deadline, and DiskFull.
    """
    fetched, left, deadline = list[Path](), limits.bytes, deadline or Deadline()
    for number, source in enumerate(_sources(kind, request).values()):
        deadline.check("Fetching the data")
        place = folder / str(number)
        make_folder(place)
        within = dataclasses.replace(limits, bytes=left)
        fetched.append(fetch(source, place, limits=within, access=access, deadline=deadline))
        left -= sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
    return fetched


def prepare_fetched(
    kind: TaskType,
    request: TaskRequest,
    fetched: Fetched,
    *,
    salt: bytes,
    folder: Path,
    limits: DatasetLimits = DatasetLimits(),  # noqa: B008 (frozen)
    show_rows: int = 0,
    written: Sequence[JsonValue] = (),
    most_held_out: int | None = None,
) -> PreparedData:
    """Read, clean, deduplicate and split what `fetch_sources` gave; needs no network.

    Args:
        most_held_out: rows that are held out at most, of a type that can be measured block by block; None leaves it to the type.
        show_rows: how many synthetic held-out rows somebody is to be asked for; what to show them is in the result then.
        written: what came of it; what is fit of them is held out in addition.

    Raises DatasetInvalid, and OperatorError when the disk refuses.
    """
    found = _found(kind, request, fetched, salt=salt, limits=limits)
    cleaned, rows = found.cleaned, found.rows
    sizes = kind.split_sizes
    if most_held_out is not None and kind.by_blocks:
        sizes = dataclasses.replace(sizes, most_held_out=most_held_out)
    sides = split(cleaned.rows, text=kind.text, group=kind.group, salt=salt, sizes=sizes, left_out=cleaned.removed)
    parameters = kind.schema.model_validate(request.parameters)
    made = Synthetic((), {})
    if written:
        made = fit(
            written,
            clean=lambda given: kind.clean(given, parameters),
            text=kind.text,
            group=kind.group,
            known=[*Made(sides.train, lambda row: row.row), *Made(sides.held_out, lambda row: row.row)],
            after=len(rows),
        )
    shown: list[list[str]] = []
    # types that draw, and those with data beside the data set, need more than a text
    if show_rows and kind.enrich is None and kind.base_family != "image":
        number = int.from_bytes(hashlib.sha256(salt + b"made up").digest()[:8], "big")
        shown = draw(Made(sides.train, lambda row: rows[row.number - 1]), rows=show_rows, seed=number)
    train = _write(folder / TRAIN_FILE, sides.train)
    held_out = _write(folder / HELDOUT_FILE, itertools.chain(sides.held_out, made.rows))
    removed = Counter(cleaned.removed)
    removed.update(sides.removed)  # which may count for the same reasons
    removed.update(made.dropped)
    return PreparedData(
        train_file=folder / TRAIN_FILE,
        held_out_file=folder / HELDOUT_FILE,
        train=train,
        held_out=held_out,
        train_rows=len(sides.train),
        held_out_rows=len(sides.held_out) + len(made.rows),
        held_out_commitment=held_out_commitment(salt, held_out.sha256, request),
        removed=tuple((reason, count) for reason, count in removed.items() if count),
        made_up_rows=len(made.rows),
        shown=shown,
        sources=found.counts(kind, sides),
    )


class FoundRows(NamedTuple):
    """A request's rows, as they stand in its data set and in the type's normal form."""

    rows: Sequence[Row]
    cleaned: Cleaned
    merged: Merged | None  # of several data sets

    def counts(self, kind: TaskType, sides: Split | None) -> tuple[SourceCount, ...]:
        """What became of each of several data sets; nothing for one alone."""
        return counts(self.merged, self.cleaned.rows, kind.text, sides) if self.merged else ()


def rows_fetched(kind: TaskType, request: TaskRequest, fetched: Fetched, *, salt: bytes) -> FoundRows:
    """The request's rows in their normal form, before anything is split. Raises as `prepare_fetched` does."""
    return _found(kind, request, fetched, salt=salt, limits=DatasetLimits())


def held_out_commitment(salt: bytes, sha256: str, request: TaskRequest) -> str:
    """What binds the validator to salt, held-out rows and the whole request before the start, as hex.

    sha256 over the salt, the digest of the rows, and the digest of the request, of which miners are not told where its data are.
    """
    asked = canonical({**dataclasses.asdict(request), "hours": float(request.hours)})
    return hashlib.sha256(salt + bytes.fromhex(sha256) + hashlib.sha256(asked).digest()).hexdigest()


def _sources(kind: TaskType, request: TaskRequest) -> Mapping[str, Source]:
    """Each source that the request names, once, by its name; in the order in which it names them."""
    named = [cast(JsonValue, one) for one in (request.dataset, *map(request.parameters.get, kind.sources))]
    return {_name(source): source for given in named if given is not None for source in parts_of(given)}


def _name(source: Source) -> str:
    """What a source is found by, however it is spelt."""
    return canonical(source.model_dump(mode="json")).decode()


def _found(kind: TaskType, request: TaskRequest, fetched: Fetched, *, salt: bytes, limits: DatasetLimits) -> FoundRows:
    """What `fetch_sources` gave, read and cleaned, with whatever comes from the type's other sources.

    A type may have a wider limit for rows. Columns that neither a parameter nor a data set's own mapping names are not converted.
    """
    dataset = parse_source(cast(JsonValue, request.dataset))
    parameters = kind.schema.model_validate(request.parameters)
    wanted = frozenset(_texts([parameters.model_dump(mode="json"), dataset.model_dump(mode="json")]))
    places = dict(zip(_sources(kind, request), fetched, strict=True))
    within = dataclasses.replace(limits, row_characters=max(limits.row_characters, kind.row_characters))

    def read(source: Source, most: DatasetLimits = within) -> Spool[Row]:
        return read_file(places[_name(source)], wanted=wanted, limits=most)

    rows: Sequence[Row]
    merged: Merged | None = None
    if isinstance(dataset, MergedSource):
        merged = merge(dataset, read, within)
        rows, cleaned = merged.rows, clean_each(merged, dataset.sources, lambda part: kind.clean(part, parameters))
    else:
        rows = read(dataset)
        cleaned = kind.clean(rows, parameters)
    if kind.enrich is not None:
        enriched = kind.enrich(cleaned.rows, parameters, salt, lambda given: read(_plain(given)))
        cleaned = Cleaned(enriched.rows, {**cleaned.removed, **enriched.removed})
    return FoundRows(rows, cleaned, merged)


def _plain(given: JsonValue) -> Source:
    """A source that is one alone."""
    [source] = parts_of(given)
    return source


def _texts(parameters: JsonValue) -> Iterator[str]:
    """Every text in the parameters, among them the names of all columns that the type reads."""
    if isinstance(parameters, str):
        yield parameters
    elif isinstance(parameters, dict | list):
        for inner in parameters.values() if isinstance(parameters, dict) else parameters:
            yield from _texts(inner)


def _write(file: Path, rows: Iterable[Numbered]) -> Blob:
    """Rows as canonical JSON lines, there as a whole or not at all."""
    digest, size = hashlib.sha256(), 0
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as stream:
        for row in rows:
            line = canonical(row.row) + b"\n"
            digest.update(line)
            size += len(line)
            with writing(file):
                stream.write(line)
    return Blob(sha256=digest.hexdigest(), size_bytes=size)
