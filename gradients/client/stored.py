"""What the API says of files: those of models and bases to get, and uploads to send."""

from __future__ import annotations

from pydantic import Field

from gradients.client.models import Answer


class ModelFile(Answer):
    """One file of a miner's model."""

    sha256: str = Field(description="sha256 of the file's bytes, as hex")
    size_bytes: int = Field(description="number of bytes")


class BaseFiles(Answer):
    """The files of a base that only the validator has: the winner of the task that was continued, merged with its own base."""

    base: str = Field(description="what tasks call it: 'task:' and the id of the task that was continued")
    digest: str = Field(description="sha256 over paths and sha256 of the files: the `base_digest` of the task")
    files: dict[str, ModelFile] = Field(description="each file by its path, at most one folder deep")


class ModelListing(Answer):
    """The files of a miner's model."""

    hotkey: str = Field(description="whose model it is")
    files: dict[str, ModelFile] = Field(description="each file by its name")


class Upload(Answer):
    """A data set that was uploaded."""

    dataset: str = Field(description="the name to use as `dataset` in a task spec")
    customer: str = Field(description="whose upload it is")


class UploadStanding(Answer):
    """An upload that comes in pieces."""

    id: str = Field(description="the upload's id")
    file_name: str = Field(description="the file's name, as it was announced")
    offset: int = Field(description="bytes that are here: the next ones begin there")
    size_bytes: int = Field(description="bytes that were announced")
    sha256: str | None = Field(description="sha256 of the whole file as it was announced; null where it was not")
    created_at: float = Field(description="when it was begun, Unix seconds")
    expires_at: float = Field(description="when it is dropped unless more bytes come, Unix seconds")
    dataset: str | None = Field(description="the name to use as `dataset` in a task spec; null until the file is whole")


class UploadList(Answer):
    """A customer's uploads in pieces."""

    uploads: tuple[UploadStanding, ...] = Field(description="newest first")
