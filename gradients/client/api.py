"""The customers' API as Python calls."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from gradients.client.folders import as_file
from gradients.client.models import (
    HOSTED_PREFIXES,
    UPLOAD_PREFIX,
    Estimate,
    ModelListing,
    Refusal,
    TaskDetails,
    TaskList,
    TaskSummary,
    Upload,
)
from gradients.config import CustomerSettings
from gradients.domain.json import Json
from gradients.errors import CustomerError, OutsideError, PeerUnreachable, SetupError
from gradients.files.whole import whole_file, write_bytes
from gradients.repo.manifest import is_file_name
from gradients.tasks.registry import with_sources

TIMEOUT = httpx.Timeout(10.0, read=60.0)
ESTIMATE_TIMEOUT = httpx.Timeout(10.0, read=3600.0)
MOST_SILENT_SECONDS = 120.0  # of a validator whose task is watched
CHUNK_BYTES = 1 << 20

Model = TypeVar("Model", bound=BaseModel)


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

    def submit(self, spec: Mapping[str, Json]) -> TaskSummary:
        """Post a task; data that lies on this machine is uploaded first."""
        return self._asked(TaskSummary, "POST", "/v1/tasks", json=self.uploaded(spec))

    def estimate(self, spec: Mapping[str, Json]) -> Estimate:
        """What a spec will take: rows, tokens, weights, speed, hours. The base may have to be fetched for it, which takes a while."""
        return self._asked(Estimate, "POST", "/v1/estimates", json=self.uploaded(spec), timeout=ESTIMATE_TIMEOUT)

    def uploaded(self, spec: Mapping[str, Json]) -> dict[str, Json]:
        """The spec with data that lies on this machine uploaded; again, it stays as it is."""

        def found(source: Json) -> Json:
            if isinstance(source, str) and not source.startswith((*HOSTED_PREFIXES, UPLOAD_PREFIX)):
                return self.upload(Path(source))
            return source

        return with_sources(spec, found)

    def upload(self, file: Path) -> str:
        """Upload a file, or a folder as one; the name to use as a task's data set."""
        with as_file(file) as whole, whole.open("rb") as stream:
            return self._asked(Upload, "POST", "/v1/datasets", params={"name": whole.name}, content=stream).dataset

    def tasks(self, *, limit: int = 50) -> tuple[TaskSummary, ...]:
        """The customer's tasks, newest first."""
        return self._asked(TaskList, "GET", "/v1/tasks", params={"limit": limit}).tasks

    def task(self, task_id: str) -> TaskDetails:
        """One task with everything that may be seen of it now."""
        return self._asked(TaskDetails, "GET", f"/v1/tasks/{task_id}")

    def watch(self, task_id: str, *, every_seconds: float = 1.0) -> Iterator[TaskDetails]:
        """The task again and again until it has ended; a validator that is down for a while is waited for."""
        silent_since: float | None = None
        while True:
            try:
                task = self.task(task_id)
            except OutsideError:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > MOST_SILENT_SECONDS:
                    raise
            else:
                silent_since = None
                yield task
                if task.state.ended:
                    return
            time.sleep(every_seconds)

    def model(self, task_id: str, hotkey: str) -> ModelListing:
        """The files of a scored task's model; 'best' names the winner's."""
        return self._asked(ModelListing, "GET", f"/v1/tasks/{task_id}/models/{hotkey}")

    def download(self, task_id: str, model: ModelListing, folder: Path) -> Path:
        """A model's files in `folder`, each checked against its digest."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, announced in model.files.items():
            if not is_file_name(name):
                raise PeerUnreachable(f"The validator names a file {name[:96]!r}, which no model has")
            path, digest = f"/v1/tasks/{task_id}/models/{model.hotkey}/{name}", hashlib.sha256()
            with whole_file(folder / name) as file:
                try:
                    with self._http.stream("GET", path) as response:
                        response.raise_for_status()
                        for chunk in response.iter_bytes(CHUNK_BYTES):
                            digest.update(chunk)
                            file.write(chunk)
                except httpx.HTTPError as error:
                    raise PeerUnreachable(f"{name} could not be downloaded: {error}") from error
                if digest.hexdigest() != announced.sha256:
                    raise PeerUnreachable(f"{name} arrived damaged", fix="Try again")
        return folder

    def contact_sheet(self, task_id: str, target: Path) -> Path:
        """The picture of what everybody made of the held-out images, in `target`. Raises ApiRefused for a task without one."""
        response = self._answered("GET", f"/v1/tasks/{task_id}/contact-sheet")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, response.content)
        return target

    def _asked(self, model: type[Model], method: str, path: str, **options: object) -> Model:
        """What the API answers, checked. Raises ApiRefused when it says no, or something else than the API answers."""
        response = self._answered(method, path, **options)
        try:
            return model.model_validate_json(response.content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ApiRefused(
                f"{method} {path} was answered with {response.status_code} but not with a {model.__name__}: "
                f"{where + ': ' if where else ''}{first['msg']}",
                fix="Is --api-url a validator's API?",
            ) from error

    def _answered(self, method: str, path: str, **options: object) -> httpx.Response:
        """A successful answer. Raises ApiRefused in the API's own words for any other, and PeerUnreachable for none."""
        try:
            response = self._http.request(method, path, **options)  # type: ignore[arg-type]  # httpx names them one by one
        except httpx.HTTPError as error:
            raise PeerUnreachable(
                f"The validator's API at {self._http.base_url} does not answer: {error}",
                fix="Is `gradients validator run` up?",
            ) from error
        if response.is_success:
            return response
        try:
            said = Refusal.model_validate_json(response.content)
        except ValidationError:  # something else answers, such as a proxy
            raise ApiRefused(f"{method} {path} was answered with {response.status_code}") from None
        raise ApiRefused(said.message, code=said.code, fix=said.fix)


def connect(settings: CustomerSettings) -> MarketClient:
    """A client by these settings. Raises SetupError when there is no key."""
    file = settings.api_key_file.expanduser()
    try:
        key = settings.api_key or file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SetupError(
            f"There is no API key: none was given and {file} cannot be read",
            fix="Give --api-key or set GRADIENTS_API_KEY; the operator makes keys with `gradients validator key`",
        ) from error
    return MarketClient(settings.api_url, key)
