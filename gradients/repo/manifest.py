"""The manifest of a model repo: what the miner commits to and what is fetched, name by name, byte by byte."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from gradients.domain.json import canonical
from gradients.errors import SubmissionRejected
from gradients.files.digest import file_sha256
from gradients.files.strict_json import strict_json

FORMAT: Literal["gradients-repo/1"] = "gradients-repo/1"
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 1_000_000
MAX_FILES = 64

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,95}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class RepoFile(BaseModel):
    """One file by what it holds."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sha256: Sha256
    size_bytes: int = Field(ge=0, lt=2**50)


class TrainingSummary(BaseModel):
    """What the miner says about its training. Shown, never used."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    recipe: str = Field(default="", max_length=64)
    steps: int = Field(default=0, ge=0)
    train_loss: float | None = None
    validation_loss: float | None = None
    seconds: float = Field(default=0.0, ge=0)


class Manifest(BaseModel):
    """Everything that a repo consists of."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal["gradients-repo/1"] = FORMAT
    task_id: str = Field(max_length=64)
    hotkey: str = Field(max_length=64)
    base_digest: Sha256
    terms_sha256: Sha256 | None = Field(
        default=None, description="of the start that the miner was told, see messages.py"
    )
    kind: Literal["adapter", "full"]
    files: dict[FileName, RepoFile] = Field(min_length=1, max_length=MAX_FILES)
    training: TrainingSummary = TrainingSummary()

    def text(self) -> str:
        """The exact text whose sha256 goes into the commitment."""
        return canonical(self.model_dump(mode="json")).decode()

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.size_bytes for file in self.files.values())


def parse_manifest(text: str) -> Manifest:
    """The manifest that `text` is. Raises SubmissionRejected (manifest_invalid) for anything else."""
    if len(text) > MAX_MANIFEST_BYTES or len(text.encode(errors="surrogatepass")) > MAX_MANIFEST_BYTES:
        raise SubmissionRejected(f"The manifest is larger than {MAX_MANIFEST_BYTES:,} bytes", code="manifest_invalid")
    try:
        return Manifest.model_validate(strict_json(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))[:100]
        raise SubmissionRejected(f"The manifest's {where!r}: {first['msg']}", code="manifest_invalid") from error
    except ValueError as error:
        raise SubmissionRejected(f"The manifest is not valid JSON: {error}", code="manifest_invalid") from error


def describe_folder(
    folder: Path,
    *,
    task_id: str,
    hotkey: str,
    base_digest: str,
    kind: Literal["adapter", "full"],
    training: TrainingSummary,
    terms_sha256: str | None = None,
) -> Manifest:
    """The manifest of the files that lie in `folder`, but for a manifest of its own."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MANIFEST_FILE)
    return Manifest(
        task_id=task_id,
        hotkey=hotkey,
        base_digest=base_digest,
        terms_sha256=terms_sha256,
        kind=kind,
        files={path.name: RepoFile(sha256=file_sha256(path), size_bytes=path.stat().st_size) for path in files},
        training=training,
    )


def is_file_name(name: str) -> bool:
    """Whether a repo may hold a file called `name`."""
    return re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,95}", name) is not None
