"""The customers' API as Python calls."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self, cast

import httpx

from gradients.client.folders import as_file
from gradients.config import CustomerSettings
from gradients.domain.json import Json, JsonObject
from gradients.domain.task import TaskState
from gradients.errors import CustomerError, OutsideError, PeerUnreachable, SetupError
from gradients.repo.manifest import is_file_name
from gradients.tasks.registry import with_sources

TIMEOUT = httpx.Timeout(10.0, read=60.0)
ESTIMATE_TIMEOUT = httpx.Timeout(10.0, read=3600.0)
CHUNK_BYTES = 1 << 20
ELSEWHERE = ("hub:", "upload:", "http://", "https://", "s3://")  # data that is no file of the customer's


class ApiRefused(CustomerError):
    """The API answered no; `code` is its own."""

    default_code = "api_refused"


class MarketClient:
    """One customer at one validator."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(self, spec: Mapping[str, Json]) -> JsonObject:
        """Post a task; data that lies on this machine is uploaded first."""
        return self._json("POST", "/v1/tasks", json=self.uploaded(spec))

    def estimate(self, spec: Mapping[str, Json]) -> JsonObject:
        """What a spec will take: rows, tokens, weights, speed, hours. The base may have to be fetched for it, which takes a while."""
        return self._json("POST", "/v1/estimates", json=self.uploaded(spec), timeout=ESTIMATE_TIMEOUT)

    def uploaded(self, spec: Mapping[str, Json]) -> dict[str, Json]:
        """The spec with data that lies on this machine uploaded; again, it stays as it is."""
        return with_sources(spec, self._found)

    def upload(self, file: Path) -> str:
        """Upload a file, or a folder as one; the name to use as a task's data set."""
        with as_file(file) as whole, whole.open("rb") as stream:
            answer = self._json("POST", "/v1/datasets", params={"name": whole.name}, content=stream)
        return str(answer["dataset"])

    def tasks(self, *, limit: int = 50) -> list[JsonObject]:
        """The customer's tasks, newest first."""
        return cast(list[JsonObject], self._json("GET", "/v1/tasks", params={"limit": limit})["tasks"])

    def task(self, task_id: str) -> JsonObject:
        """One task with everything that may be seen of it now."""
        return self._json("GET", f"/v1/tasks/{task_id}")

    def watch(self, task_id: str, *, every_seconds: float = 1.0) -> Iterator[JsonObject]:
        """The task again and again until it has ended; a validator that is down for a while is waited for."""
        silent_since: float | None = None
        while True:
            try:
                task = self.task(task_id)
            except OutsideError:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > 120:
                    raise
            else:
                silent_since = None
                yield task
                if TaskState(str(task["state"])).ended:
                    return
            time.sleep(every_seconds)

    def download(self, task_id: str, hotkey: str, folder: Path) -> Path:
        """A model's files in `folder`, each checked against its digest; 'best' names the winner's."""
        listing = self._json("GET", f"/v1/tasks/{task_id}/models/{hotkey}")
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in cast(Mapping[str, Mapping[str, str]], listing["files"]).items():
            if not is_file_name(name):
                raise PeerUnreachable(f"The validator names a file {name[:96]!r}, which no model has")
            self._fetch(f"/v1/tasks/{task_id}/models/{listing['hotkey']}/{name}", folder / name, file["sha256"])
        return folder

    def contact_sheet(self, task_id: str, target: Path) -> Path:
        """The picture of what everybody made of the held-out images, in `target`. Raises ApiRefused for a task without one."""
        response = self._answered("GET", f"/v1/tasks/{task_id}/contact-sheet")
        if not response.is_success:
            raise _refused(response)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        try:
            part.write_bytes(response.content)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def _found(self, source: Json) -> Json:
        """What the validator finds the source by."""
        local = isinstance(source, str) and not source.startswith(ELSEWHERE)
        return self.upload(Path(source)) if local and isinstance(source, str) else source

    def _fetch(self, path: str, target: Path, sha256: str) -> None:
        part = target.with_name(f".{target.name}.part")
        digest = hashlib.sha256()
        try:
            with self._http.stream("GET", path) as response, part.open("wb") as file:
                response.raise_for_status()
                for chunk in response.iter_bytes(CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
        except httpx.HTTPError as error:
            raise PeerUnreachable(f"{target.name} could not be downloaded: {error}") from error
        except OSError:
            part.unlink(missing_ok=True)
            raise
        if digest.hexdigest() != sha256:
            part.unlink()
            raise PeerUnreachable(f"{target.name} arrived damaged", fix="Try again")
        part.replace(target)

    def _json(self, method: str, path: str, **options: object) -> JsonObject:
        response = self._answered(method, path, **options)
        body = _object(response)
        if response.is_success and body:
            return body
        raise _refused(response)

    def _answered(self, method: str, path: str, **options: object) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)  # type: ignore[arg-type]  # httpx names them one by one
        except httpx.HTTPError as error:
            raise PeerUnreachable(
                f"The validator's API at {self._http.base_url} does not answer: {error}",
                fix="Is `gradients validator run` up?",
            ) from error


def _refused(response: httpx.Response) -> ApiRefused:
    """The API's own words, where it has any."""
    asked, body = response.request, _object(response)
    message = str(body.get("message") or f"{asked.method} {asked.url.path} was answered with {response.status_code}")
    return ApiRefused(message, code=str(body.get("code") or "api_refused"), fix=str(body.get("fix") or "") or None)


def _object(response: httpx.Response) -> JsonObject:
    """The JSON object in an answer; an empty one when something else answers, such as a proxy."""
    try:
        body = response.json()
    except ValueError:
        return {}
    return cast(JsonObject, body) if isinstance(body, dict) else {}


def connect(settings: CustomerSettings) -> MarketClient:
    """A client by these settings. Raises SetupError when there is no key."""
    return MarketClient(settings.api_url, settings.api_key or _stored_key(settings.api_key_file.expanduser()))


def _stored_key(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SetupError(
            f"There is no API key: none was given and {file} cannot be read",
            fix="Give --api-key or set GRADIENTS_API_KEY; the operator makes keys with `gradients validator key`",
        ) from error
