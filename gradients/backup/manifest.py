"""What lies in a backup: every file with its digest, and what wrote it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gradients.errors import SetupError
from gradients.files.whole import write_text

FORMAT = 1
NAME = "manifest.json"
FOLDER = "folder"  # of a backup: what lay in the daemon's
DATABASE = "database"
SETTINGS = "settings.toml"


class File(BaseModel):
    """A file of a backup."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str  # below the backup
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    mode: int = Field(ge=0, le=0o700)  # the owner's rights

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or PurePosixPath(path).is_absolute() or ".." in parts:
            raise ValueError("leads out of the backup")
        return path


class Manifest(BaseModel):
    """All of a backup."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    role: str
    version: str  # of this software
    made_at: float  # seconds since the Unix epoch
    folder: str  # where the daemon's lay
    is_whole: bool  # or records only: without rows, models and uploads
    database: Literal["sqlite", "postgresql"] | None
    database_schema: str | None  # Alembic's revision
    settings: str | None  # the daemon's settings file, below the backup
    files: tuple[File, ...]
    vanished: tuple[str, ...]  # that a running daemon removed while they were copied


def write(manifest: Manifest, backup: Path) -> None:
    """Put the manifest into its backup."""
    write_text(backup / NAME, manifest.model_dump_json(indent=1), mode=0o600)


def read(backup: Path) -> Manifest:
    """The manifest of a backup. Raises SetupError when it isn't one, or one of a later form."""
    file = backup / NAME
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(
            f"{backup} is not a backup: {file.name} cannot be read", fix="Name the folder that `gradients backup` made"
        ) from error
    try:
        form = _Form.model_validate_json(text).format
        if form > FORMAT:
            raise SetupError(
                f"The backup {backup} has the form {form}, and this version knows forms up to {FORMAT}",
                code="backup_newer",
                fix="Install the version that made it, or a newer one",
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise SetupError(
            f"The manifest of {backup} is damaged: {where}: {first['msg']}",
            code="backup_damaged",
            fix="Take another backup",
        ) from error


class _Form(BaseModel):
    """The one thing that every form of a manifest says."""

    format: int
