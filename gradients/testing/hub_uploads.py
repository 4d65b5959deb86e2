"""The part of a loopback hub that takes uploads, as `huggingface_hub` makes them without xet: a repo, large files by digest, one commit.

Covers: who has no token is refused; files by digest are checked; a commit is whole. Does not cover: branches, deletions, rights.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

CREATED = "created"  # a folder with what each repo was asked for, <org>--<name>.json
_LARGE = (".safetensors", ".gguf")
_OBJECTS = "objects"
_CREATE, _CARD = "/api/repos/create", "/api/validate-yaml"
_REPO = r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)"
_MODES = re.compile(rf"/api/models/{_REPO}/preupload/main")
_BATCH = re.compile(rf"/{_REPO}\.git/info/lfs/objects/batch")
_OBJECT = re.compile(r"/lfs/(?P<oid>[0-9a-f]{64})")
_COMMIT = re.compile(rf"/api/models/{_REPO}/commit/main")
_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*")


class Uploaded(NamedTuple):
    """An answer: its status and what stands in it."""

    status: int
    body: Mapping[str, object]


def take(root: Path, command: str, path: str, body: bytes, *, authorization: str | None, url: str) -> Uploaded | None:
    """The answer to one request of an upload; None for what is not one."""
    if command == "PUT" and (match := _OBJECT.fullmatch(path)):  # at the store, which knows no tokens
        return _keep(root / _OBJECTS, match["oid"], body)
    if command != "POST" or not any(
        (path in (_CREATE, _CARD), *(each.fullmatch(path) for each in (_MODES, _BATCH, _COMMIT)))
    ):
        return None
    if not (authorization or "").startswith("Bearer hf_"):
        return Uploaded(401, {"error": "Invalid username or password."})
    if path == _CARD:
        return Uploaded(200, {"errors": [], "warnings": []})
    if path == _CREATE:
        return _create(root, json.loads(body), url=url)
    if match := _MODES.fullmatch(path):
        return Uploaded(200, {"files": [_mode(each["path"]) for each in json.loads(body)["files"]]})
    if match := _BATCH.fullmatch(path):
        return Uploaded(
            200, {"transfer": "basic", "objects": [_action(each, url) for each in json.loads(body)["objects"]]}
        )
    match = _COMMIT.fullmatch(path)
    assert match is not None  # noqa: S101 (the last of the forms above)
    return _commit(root, match["repo"], body, url=url)


def _create(root: Path, asked: Mapping[str, Any], *, url: str) -> Uploaded:  # Any: JSON
    name = f"{asked['organization']}/{asked['name']}"
    repo = root / "models" / name
    answer = {"url": f"{url}/{name}"}
    if repo.is_dir():
        return Uploaded(409, answer)
    repo.mkdir(parents=True)
    (root / CREATED).mkdir(exist_ok=True)
    (root / CREATED / f"{name.replace('/', '--')}.json").write_text(json.dumps(asked))
    return Uploaded(200, answer)


def _mode(path: str) -> Mapping[str, object]:
    return {"path": path, "uploadMode": "lfs" if path.endswith(_LARGE) else "regular", "shouldIgnore": False}


def _action(asked: Mapping[str, Any], url: str) -> Mapping[str, object]:  # Any: JSON
    return {**asked, "actions": {"upload": {"href": f"{url}/lfs/{asked['oid']}"}}}


def _keep(objects: Path, oid: str, content: bytes) -> Uploaded:
    if hashlib.sha256(content).hexdigest() != oid:
        return Uploaded(400, {"error": "The content is not what it is called"})
    objects.mkdir(exist_ok=True)
    (objects / oid).write_bytes(content)
    return Uploaded(200, {})


def _commit(root: Path, name: str, body: bytes, *, url: str) -> Uploaded:
    repo = root / "models" / name
    if not repo.is_dir():
        return Uploaded(404, {"error": "Repository not found"})
    lines = [json.loads(line) for line in body.splitlines()]
    files = {each["value"]["path"]: each for each in lines if each["key"] in ("file", "lfsFile")}
    if not all(_NAME.fullmatch(file) for file in files):
        return Uploaded(400, {"error": "A file's name is refused"})
    for file, each in files.items():
        value = each["value"]
        large = each["key"] == "lfsFile"
        content = (root / _OBJECTS / value["oid"]).read_bytes() if large else base64.b64decode(value["content"])
        (repo / file).parent.mkdir(parents=True, exist_ok=True)
        (repo / file).write_bytes(content)
    oid = hashlib.sha1(body).hexdigest()  # noqa: S324 (as git names commits)
    return Uploaded(
        200, {"success": True, "commitOid": oid, "commitUrl": f"{url}/{name}/commit/{oid}", "hookOutput": ""}
    )
