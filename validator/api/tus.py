"""Uploads in pieces over HTTP, as tus 1.0 says it (https://tus.io/protocols/resumable-upload).

Covers: the protocol's core, and its extensions creation, expiration, checksum and termination. Beside it an upload's own address answers
GET with JSON, and the sha256 of the whole file, where the metadata announce one, is checked.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Annotated

import fastapi
from fastapi import APIRouter, Header, Query, Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gradients.client.models import UPLOAD_PREFIX, Refusal
from gradients.client.requests import PIECE_TYPE, TUS_VERSION, UPLOADS
from gradients.client.stored import UploadList, UploadStanding
from gradients.domain import customer
from gradients.errors import CustomerError
from validator.api.dependencies import AppDependencies, Customer, keyed
from validator.api.documented import NOT_FOUND, PREFIX, REFUSALS, Responses
from validator.api.resumable import Checksum, ResumableUploads, Standing

EXTENSIONS = "creation,expiration,checksum,termination"
ALGORITHMS = {"sha1": 20, "sha256": 32}  # name -> bytes of a digest
MOST_METADATA = 4096
LARGEST = 2**62
DATASET = "Gradients-Dataset"  # the header that names what an upload has become
BINARY = {"schema": {"type": "string", "format": "binary"}}
_SHA256 = re.compile(r"[0-9a-f]{64}")

WRONG_VERSION: Responses = {412: {"model": Refusal, "description": "`Tus-Resumable` is missing, or another version"}}
PIECE_REFUSED: Responses = {
    409: {"model": Refusal, "description": "The upload stands elsewhere than at Upload-Offset"},
    415: {"model": Refusal, "description": f"The body is not of the type {PIECE_TYPE}"},
    423: {"model": Refusal, "description": "Another request writes to the upload"},
    460: {"model": Refusal, "description": "The bytes do not have their checksum"},
}

router = APIRouter(
    prefix=PREFIX, route_class=keyed(customer.Scope.SUBMIT), responses={**REFUSALS, **WRONG_VERSION}, tags=["data"]
)
about = APIRouter(prefix=PREFIX, tags=["data"])


class TusVersionUnknown(CustomerError):
    """A request of another version of the protocol, or of none."""

    default_code = "tus_version_unknown"


class UploadNotBinary(CustomerError):
    """A piece whose content type is not the protocol's."""

    default_code = "upload_not_binary"


class UploadInvalid(CustomerError):
    """A header of the protocol that cannot be read."""

    default_code = "upload_invalid"


Version = Annotated[str | None, Header(alias="Tus-Resumable", description="the protocol's version, 1.0.0")]
UploadId = Annotated[
    str, fastapi.Path(pattern="^[0-9a-f]{32}$", description="the upload's id, the end of its Location")
]


@about.options("/uploads", status_code=204, responses={204: {"description": "In the headers `Tus-Version` and others"}})
async def describe_uploads(dependencies: AppDependencies) -> Response:
    """What of tus is spoken here; without a key."""
    headers = {
        "Tus-Version": TUS_VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(dependencies.uploads.max_bytes),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }
    return Response(status_code=204, headers=headers)


@router.post(
    "/uploads",
    status_code=201,
    response_class=Response,
    responses={
        201: {
            "description": "The upload has begun",
            "headers": {"Location": {"description": "where its bytes go", "schema": {"type": "string"}}},
        }
    },
)
async def begin_upload(
    dependencies: AppDependencies,
    customer: Customer,
    upload_length: Annotated[int, Header(ge=1, le=LARGEST, description="the file's size in bytes")],
    upload_metadata: Annotated[
        str,
        Header(
            max_length=MOST_METADATA,
            description="`filename` (its ending says the format) and, if you like, the whole file's `sha256` as hex; each a name, a space "
            "and the value in base64, with commas in between",
        ),
    ],
    tus_resumable: Version = None,
) -> Response:
    """Begin an upload whose bytes come in pieces. Its size counts as one of your uploads from now on, until it expires."""
    _check_version(tus_resumable)
    metadata = _metadata(upload_metadata)
    name, sha256 = Path(metadata.get("filename", "")).name, metadata.get("sha256")
    if not name or len(name) > 255:
        raise UploadInvalid("Upload-Metadata names no file", fix="Send `filename` with the file's name in base64")
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise UploadInvalid("`sha256` in Upload-Metadata is not a sha256", fix="Send 64 hex digits in base64")
    begun = await _uploads(dependencies).begin(customer, file_name=name, size_bytes=upload_length, sha256=sha256)
    return Response(status_code=201, headers={"Location": f"{UPLOADS}/{begun.upload.id}", **_headers(begun)})


@router.get("/uploads")
async def list_uploads(
    dependencies: AppDependencies,
    customer: Customer,
    sha256: Annotated[
        str | None, Query(pattern="^[0-9a-f]{64}$", description="only those that were announced with it")
    ] = None,
) -> UploadList:
    """Your uploads in pieces, newest first: those that lack bytes, and for a while those that are whole."""
    listed = await _uploads(dependencies).listed(customer, sha256=sha256)
    return UploadList(uploads=tuple(map(_shown, listed)))


@router.get("/uploads/{upload_id}", responses={**NOT_FOUND, 460: PIECE_REFUSED[460]})
async def show_upload(upload_id: UploadId, dependencies: AppDependencies, customer: Customer) -> UploadStanding:
    """Where an upload stands, and what it is called as a data set once it is whole."""
    return _shown(await _uploads(dependencies).look(customer, upload_id))


@router.head(
    "/uploads/{upload_id}",
    response_class=Response,
    responses={**NOT_FOUND, 460: PIECE_REFUSED[460], 200: {"description": "In `Upload-Offset` and `Upload-Length`"}},
)
async def look_at_upload(
    upload_id: UploadId, dependencies: AppDependencies, customer: Customer, tus_resumable: Version = None
) -> Response:
    """Where an upload stands, as tus asks for it."""
    _check_version(tus_resumable)
    standing = await _uploads(dependencies).look(customer, upload_id)
    length = {"Upload-Length": str(standing.upload.size_bytes), "Cache-Control": "no-store"}
    return Response(status_code=200, headers={**_headers(standing), **length})


@router.patch(
    "/uploads/{upload_id}",
    status_code=204,
    response_class=Response,
    responses={
        **NOT_FOUND,
        **PIECE_REFUSED,
        204: {
            "description": f"Taken; in `Upload-Offset` where the upload stands, in `{DATASET}` what it is called once it is whole"
        },
    },
    openapi_extra={"requestBody": {"required": True, "content": {PIECE_TYPE: BINARY}}},
)
async def continue_upload(
    upload_id: UploadId,
    request: Request,
    dependencies: AppDependencies,
    customer: Customer,
    upload_offset: Annotated[int, Header(ge=0, le=LARGEST, description="where these bytes begin")],
    upload_checksum: Annotated[
        str | None,
        Header(
            max_length=128, description=f"of these bytes: one of {', '.join(ALGORITHMS)}, a space, the digest in base64"
        ),
    ] = None,
    tus_resumable: Version = None,
) -> Response:
    """Send bytes, from where the upload stands. What has come is kept when the connection breaks; ask where it stands, and go on.

    With the last bytes the file is whole: its sha256 is checked, if one was announced, and the answer says what it is called.
    """
    _check_version(tus_resumable)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != PIECE_TYPE:
        raise UploadNotBinary("The body's type is not that of a piece", fix=f"Send Content-Type: {PIECE_TYPE}")
    checksum = _checksum(upload_checksum) if upload_checksum is not None else None
    uploads = _uploads(dependencies)
    standing = await uploads.receive(customer, upload_id, request.stream(), offset=upload_offset, checksum=checksum)
    return Response(status_code=204, headers=_headers(standing))


@router.delete(
    "/uploads/{upload_id}", status_code=204, response_class=Response, responses={**NOT_FOUND, 423: PIECE_REFUSED[423]}
)
async def drop_upload(
    upload_id: UploadId, dependencies: AppDependencies, customer: Customer, tus_resumable: Version = None
) -> Response:
    """Give an upload up, and its room free. What it has become, if it was whole, stays."""
    _check_version(tus_resumable)
    await _uploads(dependencies).drop(customer, upload_id)
    return Response(status_code=204)


def is_piece(path: str) -> bool:
    """Whether bodies at this path are streams with a limit of their own."""
    return path.startswith(f"{UPLOADS}/")


class TusResponses:
    """Every answer about uploads names the protocol's version, also one that refuses."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application."""

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Tus-Resumable"] = TUS_VERSION
                if message["status"] == 412:
                    headers["Tus-Version"] = TUS_VERSION
            await send(message)

        await self.app(scope, receive, named if scope.get("path", "").startswith(UPLOADS) else send)


def _uploads(dependencies: AppDependencies) -> ResumableUploads:
    return ResumableUploads(dependencies.uploads)


def _shown(standing: Standing) -> UploadStanding:
    upload = standing.upload
    return UploadStanding(
        id=upload.id,
        file_name=upload.file_name,
        offset=standing.offset,
        size_bytes=upload.size_bytes,
        sha256=upload.sha256,
        created_at=upload.created_at,
        expires_at=standing.expires_at,
        dataset=f"{UPLOAD_PREFIX}{upload.name}" if upload.name else None,
    )


def _headers(standing: Standing) -> dict[str, str]:
    name = {DATASET: f"{UPLOAD_PREFIX}{standing.upload.name}"} if standing.upload.name else {}
    expires = {"Upload-Expires": formatdate(standing.expires_at, usegmt=True)}
    return {"Upload-Offset": str(standing.offset), **expires, **name}


def _check_version(version: str | None) -> None:
    if version != TUS_VERSION:
        raise TusVersionUnknown(
            f"Version {TUS_VERSION} of tus is spoken here", fix=f"Send Tus-Resumable: {TUS_VERSION}"
        )


def _metadata(header: str) -> Mapping[str, str]:
    """Name -> value. Raises UploadInvalid."""
    found = dict[str, str]()
    for pair in header.split(","):
        name, _, value = pair.strip().partition(" ")
        found[name] = _decoded(value, header="Upload-Metadata").decode("utf-8", "replace")
    return found


def _checksum(header: str) -> Checksum:
    """Raises UploadInvalid."""
    algorithm, _, digest = header.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise UploadInvalid(f"There is no checksum {algorithm[:32]!r} here", fix=f"Use one of {', '.join(ALGORITHMS)}")
    decoded = _decoded(digest, header="Upload-Checksum")
    if len(decoded) != ALGORITHMS[algorithm]:
        raise UploadInvalid("Upload-Checksum is not a digest of that kind", fix="Send its bytes in base64")
    return Checksum(algorithm, decoded)


def _decoded(text: str, *, header: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise UploadInvalid(f"{header} is not base64", fix="Encode each value in base64") from error
