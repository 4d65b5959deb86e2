"""Where rows may come from: files, folders saved by `datasets`, data sets of a hub, URLs, and objects of an S3 store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

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


_FORMS = "Give a file, hub:org/name@revision#split, an https:// URL, or s3://bucket/key"
_HUB = re.compile(r"^hub:(?P<repo>[^@#]+)(@(?P<revision>[^#]+))?(#(?P<split>.+))?$")
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
_SOURCE: TypeAdapter[Source] = TypeAdapter(DatasetSource)


def parse_source(given: JsonValue) -> Source:
    """A source from its JSON form or from a text. Raises TaskInvalid."""
    try:
        return _SOURCE.validate_python(given)
    except ValidationError as error:
        raise TaskInvalid(f"dataset: {error.errors()[0]['msg']}", fix=_FORMS) from error
