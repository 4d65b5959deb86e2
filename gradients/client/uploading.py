"""What both clients know of uploads in pieces (tus 1.0): what is sent, and whether a failure is one to go on after. Nothing here waits."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import httpx

from gradients.client.answers import ApiRefused, is_outage
from gradients.client.requests import MOST_SILENT_SECONDS, PIECE_TYPE, TUS_VERSION, UPLOADS
from gradients.client.stored import UploadStanding
from gradients.errors import PeerUnreachable

PIECE_BYTES = 8 * 1024**2  # of a request; files that are not larger go in one
ENDING_TIMEOUT = httpx.Timeout(10.0, read=600.0)  # with the last piece the validator reads the whole file once more
TUS = {"Tus-Resumable": TUS_VERSION}
GO_ON = (
    "upload_offset_wrong",
    "upload_busy",
    "upload_checksum_wrong",
)  # codes after which one asks where the upload stands

OnUpload = Callable[[str, int, int], None]  # a file's name, how many of its bytes are there, how many it has


@dataclass(slots=True)
class Course:
    """How far an upload is, as its client has seen it. Whoever else sends the same file moves it too.

    Args:
        offset: where it stood last.
        moved_at: when it was seen to move, by the caller's clock.
    """

    offset: int
    moved_at: float

    def moves(self, offset: int, *, now: float) -> bool:
        """Note where it stands; whether that is another place than before."""
        if offset == self.offset:
            return False
        self.offset, self.moved_at = offset, now
        return True

    def is_still(self, *, now: float) -> bool:
        """Whether nothing has moved for so long that its caller should hear of it."""
        return now - self.moved_at > MOST_SILENT_SECONDS


class Piece(NamedTuple):
    """One request of an upload."""

    content: bytes
    headers: dict[str, str]


def begun_before(uploads: Sequence[UploadStanding], file: Path) -> UploadStanding | None:
    """The newest upload of the same file, out of those with its digest: the format goes by the ending."""
    ending = file.suffix.lower()
    return next((each for each in uploads if Path(each.file_name).suffix.lower() == ending), None)


def begin_headers(file: Path, size: int, *, sha256: str) -> dict[str, str]:
    """What announces a file."""
    told = {"filename": file.name, "sha256": sha256}
    metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in told.items())
    return {**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata}


def piece_of(file: Path, offset: int) -> Piece:
    """The bytes that come next, with their checksum. Blocking."""
    with file.open("rb") as stream:
        stream.seek(offset)
        content = stream.read(PIECE_BYTES)
    checksum = f"sha256 {base64.b64encode(hashlib.sha256(content).digest()).decode()}"
    return Piece(
        content, {**TUS, "Content-Type": PIECE_TYPE, "Upload-Offset": str(offset), "Upload-Checksum": checksum}
    )


def goes_on_after(error: Exception) -> bool:
    """Whether an upload goes on after this failure, once its validator has said where it stands."""
    if isinstance(error, ApiRefused):
        return is_outage(error) or error.code in GO_ON
    return isinstance(error, PeerUnreachable)


def upload_path(upload_id: str) -> str:
    """The path of an upload in pieces."""
    return f"{UPLOADS}/{upload_id}"
