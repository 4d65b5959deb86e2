"""A hub on loopback that `huggingface_hub` and `datasets` talk to unchanged: data sets and models out of folders; uploads, where they
are taken, in hub_uploads.py.

Covers: info, listing, revisions, files by byte range, the error codes that clients tell apart. Does not cover: accounts, git, xet.
Point a process at it with HF_ENDPOINT.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from gradients.testing.hub_uploads import Uploaded, take

REVISION = "main"
_API = re.compile(
    r"/api/(?P<kind>datasets|models)/(?P<repo>[^/]+/[^/]+)(/(?P<what>[a-z-]+)(/(?P<revision>[^/]+)(/(?P<path>.*))?)?)?"
)
_FILE = re.compile(r"/(?P<kind>datasets/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


@contextlib.contextmanager
def loopback_hub(
    root: Path, *, host: str = "127.0.0.1", keys: list[str | None] | None = None, uploads: bool = False
) -> Iterator[str]:
    """Serve <root>/datasets/<org>/<name>/… and <root>/models/<org>/<name>/… for the body; the value for HF_ENDPOINT.

    Args:
        keys: gets what each request has for Authorization, in the order of their coming.
        uploads: whether models can be uploaded, by anybody with a token of the hub's form.
    """
    server = ThreadingHTTPServer((host, 0), _handler(root, keys if keys is not None else [], uploads=uploads))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def commit_of(repo: Path) -> str:
    """The commit that stands for a folder's present content, 40 hex digits."""
    listing = [[file.relative_to(repo).as_posix(), _sha256(file)] for file in _files(repo)]
    return hashlib.sha1(json.dumps(listing).encode()).hexdigest()  # noqa: S324 (as git names commits)


def _handler(root: Path, keys: list[str | None], *, uploads: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(b"")

        def do_HEAD(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

        def do_PUT(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (as the base class calls it)
            """Say nothing."""

        def _answer(self, body: bytes) -> None:
            keys.append(self.headers.get("Authorization"))
            asked = urlsplit(self.path)
            if uploads and (taken := self._taken(asked.path, body)) is not None:
                self._send(_Answer(taken.status, {"Content-Type": "application/json"}, json.dumps(taken.body).encode()))
                return
            sizes, byte_range = "blobs=true" in asked.query.lower(), self.headers.get("Range")
            answer = _respond(root, unquote(asked.path), body=body, byte_range=byte_range, sizes=sizes)
            self._send(answer)

        def _taken(self, path: str, body: bytes) -> Uploaded | None:
            url, token = f"http://{self.headers['Host']}", self.headers.get("Authorization")
            return take(root, self.command, unquote(path), body, authorization=token, url=url)

        def _send(self, answer: _Answer) -> None:
            self.send_response(answer.status)
            for name, value in {**answer.headers, "Content-Length": str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

    return Handler


def _respond(root: Path, path: str, *, body: bytes, byte_range: str | None, sizes: bool) -> _Answer:
    """The answer to one request."""
    asked = _API.fullmatch(path) or _FILE.fullmatch(path)
    if asked is None:
        return _refusal("EntryNotFound")
    repo = root / (asked["kind"] or "models").strip("/") / asked["repo"]
    if not repo.is_dir() or ".." in asked["repo"]:
        return _refusal("RepoNotFound")
    commit = commit_of(repo)
    if (asked["revision"] or REVISION) not in (REVISION, commit):
        return _refusal("RevisionNotFound")
    if asked.re is _FILE:
        return _file(repo, asked["path"], commit=commit, byte_range=byte_range)
    if asked["what"] == "tree":
        below = sorted(path.relative_to(repo).as_posix() for path in (repo / (asked["path"] or "")).rglob("*"))
        return _json([_entry(repo, name) for name in below])
    if asked["what"] == "paths-info":  # which comes as a form or as JSON
        text = body.decode()
        form = [value for name, value in parse_qsl(text) if name == "paths"]
        wanted = list(json.loads(text)["paths"]) if text.startswith("{") else form
        return _json([_entry(repo, name) for name in wanted if (repo / name).exists()])
    siblings = [
        {"rfilename": file.relative_to(repo).as_posix()} | ({"size": file.stat().st_size} if sizes else {})
        for file in _files(repo)
    ]
    return _json(
        {"id": asked["repo"], "sha": commit, "private": False, "gated": False, "tags": [], "siblings": siblings}
    )


def _file(repo: Path, name: str, *, commit: str, byte_range: str | None) -> _Answer:
    file = repo / name
    if not file.is_file() or not file.resolve().is_relative_to(repo.resolve()):
        return _refusal("EntryNotFound", commit)
    content = file.read_bytes()
    headers = {"ETag": f'"{_sha256(file)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
    match = _RANGE.fullmatch(byte_range or "")
    if match is None:
        return _Answer(200, headers, content)
    first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
    shown = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
    return _Answer(206, headers | shown, content[first : last + 1])


def _entry(repo: Path, name: str) -> object:
    path = repo / name
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest()}  # noqa: S324
    return {"type": "file", "path": name, "oid": _sha256(path)[:40], "size": path.stat().st_size}


def _files(repo: Path) -> list[Path]:
    return sorted(path for path in repo.rglob("*") if path.is_file())


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _json(value: object) -> _Answer:
    return _Answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


def _refusal(code: str, commit: str = "") -> _Answer:
    headers = {"X-Error-Code": code, "X-Error-Message": code} | ({"X-Repo-Commit": commit} if commit else {})
    return _Answer(404, headers, b"")
