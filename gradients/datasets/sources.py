"""Where rows may come from: files, folders saved by `datasets`, data sets of a hub, URLs, objects of an S3 store, and several of these."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from gradients.domain.json import Json
from gradients.errors import TaskInvalid

# ASCII only: what a hub takes, and compiled in no time (a Unicode \w{0,95} costs a tenth of a second).
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"


@dataclass(frozen=True, slots=True)
class DatasetLimits:
    """How much a data set may hold."""

    bytes: int = 2 * 1024**3  # of the files, and characters of what they hold
    rows: int = 1_000_000
    row_characters: int = 1_000_000


DEFAULT_LIMITS = DatasetLimits()
MERGED = "merged"  # kind of a source that is several
MOST_IMAGE_BYTES = 16 * 1024**2  # of one image's file, wherever it comes from


class FileSource(BaseModel):
    """A file, or a folder that `datasets` saved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["file"] = "file"
    path: Path


class HubSource(BaseModel):
    """A data set of a hub, at a fixed revision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["hub"] = "hub"
    repo: str = Field(pattern=rf"^{_NAME}/{_NAME}$")  # never ".", which would be a folder of this machine
    revision: str = Field(default="main", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,95}$")
    split: str = Field(default="train", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")


class UrlSource(BaseModel):
    """A file that anybody with its URL can have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["url"] = "url"
    url: str = Field(pattern=r"^https?://[^\s@/?#]+([/?#]\S*)?$", max_length=4096)  # never with a password


class S3Source(BaseModel):
    """An object of an S3 store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["s3"] = "s3"
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    key: str = Field(pattern=r"^[^\x00-\x1f]+$", max_length=1024)


_FORMS = "Give a file, hub:org/name@revision#split, an https:// URL, s3://bucket/key, or a list of such"
_HUB = re.compile(r"^hub:(?P<repo>[^@#]+)(@(?P<revision>[^#]+))?(#(?P<split>.+))?$")
_DIGEST = re.compile("[0-9a-f]{64}")
_S3 = re.compile(r"^s3://(?P<bucket>[^/]+)/(?P<key>.+)$")


def _in_full(given: object) -> object:
    """The JSON form of a source that is given as text; what the text should have and has not is left out."""
    if not isinstance(given, str):
        return given
    if given.startswith(("http://", "https://")):
        return {"kind": "url", "url": given}
    scheme, colon, _ = given.partition(":")
    if not colon or scheme not in ("hub", "s3"):
        return {"kind": "file", "path": given}
    match = (_HUB if scheme == "hub" else _S3).match(given)
    parts = match.groupdict() if match else {}
    return {"kind": scheme, **{name: value for name, value in parts.items() if value}}


Source = FileSource | HubSource | UrlSource | S3Source
# In its JSON form, or as text: a path, "hub:org/name@revision#split", a URL, "s3://bucket/key".
DatasetSource = Annotated[Source, Field(discriminator="kind"), BeforeValidator(_in_full)]


class Part(BaseModel):
    """One of several data sets that are merged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: DatasetSource
    columns: dict[str, str] = Field(
        default_factory=dict, max_length=64, description="a column's name in the task's parameters -> its name in here"
    )
    limit: int | None = Field(default=None, ge=1, le=2**31, description="rows that are taken at most")
    weight: float | None = Field(
        default=None,
        ge=1e-6,
        le=1e6,
        allow_inf_nan=False,
        description="its share of the rows, beside the other weights",
    )


class MergedSource(BaseModel):
    """Several data sets that are trained on as one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["merged"] = "merged"
    sources: tuple[Part, ...] = Field(min_length=1, max_length=16)

    @model_validator(mode="after")
    def _weights_of_all_or_none(self) -> Self:
        if 0 < sum(part.weight is None for part in self.sources) < len(self.sources):
            raise ValueError("give every one of the data sets a weight, or none of them")
        return self


_SOURCE: TypeAdapter[Source] = TypeAdapter(DatasetSource)


def parse_source(given: JsonValue) -> Source | MergedSource:
    """A source from its JSON form or from a text; several that are merged from a list of them. Raises TaskInvalid."""
    try:
        if isinstance(given, list):
            given = {"kind": MERGED, "sources": [_part(one) for one in given]}
        if isinstance(given, dict) and given.get("kind") == MERGED:
            return MergedSource.model_validate(given)
        return _SOURCE.validate_python(given)
    except ValidationError as error:
        told = error.errors()[0]
        where = ".".join(
            str(step) for step in ("dataset", *told["loc"]) if isinstance(given, dict) or step == "dataset"
        )
        raise TaskInvalid(f"{where}: {told['msg']}", fix=_FORMS) from error


def sources_from(texts: Sequence[str]) -> Json:
    """What people name, one source or part a text: that one, or a list of several that are merged. A text may be a JSON object.

    Raises TaskInvalid.
    """
    read = [_written(text.strip()) for text in texts if text.strip()]
    is_part = len(read) == 1 and isinstance(read[0], Mapping) and "dataset" in read[0]
    return read if len(read) != 1 or is_part else read[0]


def _written(text: str) -> Json:
    if not text.startswith("{"):
        return text
    try:
        read: Json = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TaskInvalid(f"dataset is not JSON ({text[:96]}): {error}", fix=_FORMS) from error
    return read


def parts_of(given: JsonValue) -> list[Source]:
    """The sources that a source is made of: itself, unless it is several. Raises TaskInvalid."""
    source = parse_source(given)
    return [part.dataset for part in source.sources] if isinstance(source, MergedSource) else [source]


def with_parts(given: Json, change: Callable[[Json], Json]) -> Json:
    """A source as it was given, with each that it is made of put through `change`; what has another form is changed as a whole."""
    parts = given.get("sources") if isinstance(given, Mapping) and given.get("kind") == MERGED else given
    if not isinstance(parts, Sequence) or isinstance(parts, str):
        return change(given)
    changed: list[Json] = [
        {**part, "dataset": change(part["dataset"])}
        if isinstance(part, Mapping) and "dataset" in part
        else change(part)
        for part in parts
    ]
    return {**given, "sources": changed} if isinstance(given, Mapping) else changed


def name_of(source: Source) -> str:
    """Where rows come from, as their customer named it: of a file its name, for the folder is of the machine that has it."""
    if isinstance(source, FileSource):  # of an upload the name is a digest, whose beginning is enough
        stem = source.path.stem
        return f"{stem[:12]}…{source.path.suffix}" if _DIGEST.fullmatch(stem) else source.path.name
    if isinstance(source, HubSource):
        return f"{source.repo}@{source.revision}#{source.split}"
    return source.url if isinstance(source, UrlSource) else f"s3://{source.bucket}/{source.key}"


def _part(given: JsonValue) -> JsonValue:
    """One of a list: a part, or a source alone."""
    return given if isinstance(given, dict) and "dataset" in given else {"dataset": given}
