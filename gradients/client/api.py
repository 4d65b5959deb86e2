"""The customers' API as Python calls that wait. `aio.py` has the same calls for asyncio."""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
from httpx_sse import EventSource, SSEError
from pydantic import BaseModel

from gradients.bases.bases import digest_of
from gradients.bases.continued import FILE_PATH
from gradients.client.account import Account, ApiKey, KeyList, MadeKey, NewKey
from gradients.client.answers import ApiRefused, is_outage, read, refusal, told, unreachable, worth_waiting
from gradients.client.estimates import Estimate
from gradients.client.folders import as_file
from gradients.client.held_out import USUAL_ROWS, HeldOutRow, HeldOutRows, Order
from gradients.client.models import (
    BEST,
    HOSTED_PREFIXES,
    UPLOAD_PREFIX,
    TaskDetails,
    TaskEvent,
    TaskList,
    TaskProgress,
    TaskSummary,
)
from gradients.client.requests import (
    ACCOUNT,
    CHUNK_BYTES,
    DATASETS,
    ESTIMATE_TIMEOUT,
    ESTIMATES,
    KEYS,
    MOST_SILENT_SECONDS,
    REST_SECONDS,
    TASKS,
    TIMEOUT,
    TRIAL_TIMEOUT,
    TRY_REWARDS,
    UPLOADS,
    Wanted,
    heard,
    key_path,
    may_repeat,
    posting,
    task_path,
)
from gradients.client.rewards import RewardTrial, RewardVerdict
from gradients.client.stored import BaseFiles, ModelFile, ModelListing, Upload, UploadList, UploadStanding
from gradients.client.uploading import (
    ENDING_TIMEOUT,
    PIECE_BYTES,
    TUS,
    Course,
    OnUpload,
    begin_headers,
    begun_before,
    goes_on_after,
    piece_of,
    upload_path,
)
from gradients.config import CustomerSettings
from gradients.domain.json import Json
from gradients.errors import OutsideError, PeerUnreachable, SetupError
from gradients.files.digest import file_sha256
from gradients.files.whole import whole_file, write_bytes
from gradients.repo.manifest import is_file_name
from gradients.tasks.registry import with_sources

Model = TypeVar("Model", bound=BaseModel)
EVERYTHING = Wanted()


class MarketClient:
    """One customer at one validator.

    Every call raises ApiRefused when the API says no, in its words and with its code, and PeerUnreachable when nobody answers. A request
    that was one too many is made again when its Retry-After is over.
    """

    def __init__(self, url: str, key: str, *, on_upload: OnUpload = lambda *_: None) -> None:
        """Args:
        on_upload: told how far the upload of a file is.
        """
        self._on_upload = on_upload
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def submit(self, spec: Mapping[str, Json], *, idempotency_key: str | None = None) -> TaskSummary:
        """Post a task; data that lies on this machine is uploaded first. A request whose answer was lost is sent again.

        Args:
            idempotency_key: two calls with the same one, within a day, post one task; by default each call has its own.
        """
        json = self.uploaded(spec)
        return self._asked(TaskSummary, "POST", TASKS, json=json, headers=posting(idempotency_key))

    def estimate(self, spec: Mapping[str, Json]) -> Estimate:
        """What a spec will take: rows, tokens, weights, speed, hours. The base may have to be fetched for it, which takes a while."""
        return self._asked(Estimate, "POST", ESTIMATES, json=self.uploaded(spec), timeout=ESTIMATE_TIMEOUT)

    def uploaded(self, spec: Mapping[str, Json]) -> dict[str, Json]:
        """The spec with data that lies on this machine uploaded; again, it stays as it is."""
        return with_sources(spec, lambda source: self.upload(Path(str(source))) if is_local(source) else source)

    def upload(self, file: Path) -> str:
        """Upload a file, or a folder as one; the name to use as a task's data set.

        A file of more than 8 MiB goes in pieces: after a broken connection it goes on where it stood, within a day also in another process.
        """
        with as_file(file) as whole:
            size = whole.stat().st_size
            if size > PIECE_BYTES:
                return self._upload_in_pieces(whole, size)
            with whole.open("rb") as stream:
                dataset = self._asked(Upload, "POST", DATASETS, params={"name": whole.name}, content=stream).dataset
            self._on_upload(whole.name, size, size)
            return dataset

    def uploads(self, *, sha256: str | None = None) -> tuple[UploadStanding, ...]:
        """The customer's uploads in pieces, newest first; those of a file with this digest alone when one is given."""
        return self._asked(UploadList, "GET", UPLOADS, params={"sha256": sha256} if sha256 else None).uploads

    def drop_upload(self, upload_id: str) -> None:
        """Give an upload in pieces up; what it has become, if it was whole, stays."""
        self._answered("DELETE", upload_path(upload_id), headers=TUS)

    def _upload_in_pieces(self, file: Path, size: int) -> str:
        sha256 = file_sha256(file)
        standing = begun_before(self.uploads(sha256=sha256), file)
        where = upload_path(standing.id) if standing else self._begun(begin_headers(file, size, sha256=sha256))
        begins_at = standing.offset if standing else 0
        offset: int | None = begins_at
        course = Course(begins_at, time.monotonic())
        while True:
            try:
                if offset is None or offset == size:
                    standing = self._asked(UploadStanding, "GET", where, timeout=ENDING_TIMEOUT)
                    if standing.dataset is not None:
                        return standing.dataset
                    if course.moves(standing.offset, now=time.monotonic()):
                        # By another process: it need not come twice.
                        time.sleep(REST_SECONDS)
                        continue
                    offset = standing.offset
                piece = piece_of(file, offset)
                self._answered("PATCH", where, content=piece.content, headers=piece.headers, timeout=ENDING_TIMEOUT)
                offset += len(piece.content)
                course.moves(offset, now=time.monotonic())
                self._on_upload(file.name, offset, size)
            except (ApiRefused, PeerUnreachable) as error:
                if not goes_on_after(error) or course.is_still(now=time.monotonic()):
                    raise
                offset = None
                time.sleep(REST_SECONDS)

    def _begun(self, headers: Mapping[str, str]) -> str:
        return self._answered("POST", UPLOADS, headers=headers).headers["Location"]

    def tasks(self, wanted: Wanted = EVERYTHING, *, limit: int = 50, cursor: str | None = None) -> TaskList:
        """A page of the customer's tasks, newest first; its `next` is the cursor of the page after it."""
        return self._asked(TaskList, "GET", TASKS, params=wanted.query(limit=limit, cursor=cursor))

    def all_tasks(self, wanted: Wanted = EVERYTHING) -> Iterator[TaskSummary]:
        """All of the customer's tasks that are meant, newest first, fetched page by page."""
        page = self.tasks(wanted, limit=200)
        yield from page.tasks
        while page.next is not None:
            page = self.tasks(wanted, limit=200, cursor=page.next)
            yield from page.tasks

    def task(self, task_id: str) -> TaskDetails:
        """One task with everything that may be seen of it now."""
        return self._asked(TaskDetails, "GET", task_path(task_id))

    def cancel(self, task_id: str) -> TaskSummary:
        """Take a task back for which no miner has been drawn. Raises ApiRefused (task_begun) for any other."""
        return self._asked(TaskSummary, "POST", task_path(task_id, "cancel"))

    def events(self, task_id: str, *, after: int = 0) -> Iterator[TaskEvent | TaskProgress]:
        """What happens to a task until it has ended: what has happened already, then each thing as it does.

        A connection that breaks is made again, and goes on behind the last event. Raises PeerUnreachable after two minutes without one.

        Args:
            after: id of the last event that was heard before.
        """
        silent_since: float | None = None
        while True:
            try:
                with self._stream(task_id, after) as source:
                    silent_since = None
                    if source.response.status_code == httpx.codes.NO_CONTENT:
                        return
                    for event in source.iter_sse():
                        if (news := told(event)) is None:
                            continue
                        yield news
                        if isinstance(news, TaskEvent):
                            after = news.id
                            if news.state is not None and news.state.ended:
                                return
            except (httpx.HTTPError, SSEError, OutsideError, ApiRefused) as error:
                if isinstance(error, ApiRefused) and not is_outage(error):
                    raise
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > MOST_SILENT_SECONDS:
                    raise unreachable(self._http.base_url, error) from error
            time.sleep(REST_SECONDS)

    def watch(self, task_id: str) -> Iterator[TaskDetails]:
        """The task as it is now, and again whenever something has happened to it, until it has ended."""
        yield (task := self.task(task_id))
        for _ in self.events(task_id, after=task.last_event) if not task.state.ended else ():
            with contextlib.suppress(OutsideError):  # the stream waits for it
                yield (task := self.task(task_id))
            if task.state.ended:
                return
        if not task.state.ended:
            yield self.task(task_id)

    def rows(
        self, task_id: str, *, miner: str = BEST, order: Order = "gained", after: int = 0, limit: int = USUAL_ROWS
    ) -> HeldOutRows:
        """A page of a scored task's held-out rows, with what base and miners have on each; its `next` goes on behind it.

        Args:
            miner: whose gains over the base count, a hotkey; by default the winner's.
            order: where the miner gains most first, where it loses most first, or as in the file.
        """
        params = {"miner": miner, "order": order, "after": after, "limit": limit}
        return self._asked(HeldOutRows, "GET", task_path(task_id, "rows"), params=params)

    def row(self, task_id: str, number: int, *, miner: str = BEST) -> HeldOutRow:
        """One held-out row of a scored task, whole; the first one has number 1."""
        return self._asked(HeldOutRow, "GET", task_path(task_id, "rows", str(number)), params={"miner": miner})

    def model(self, task_id: str, hotkey: str) -> ModelListing:
        """The files of a scored task's model; 'best' names the winner's."""
        return self._asked(ModelListing, "GET", task_path(task_id, "models", hotkey))

    def download(self, task_id: str, model: ModelListing, folder: Path) -> Path:
        """A model's files in `folder`, each checked against its digest."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, announced in model.files.items():
            if not is_file_name(name):
                raise PeerUnreachable(f"The validator names a file {name[:96]!r}, which no model has")
            self._fetch(task_path(task_id, "models", model.hotkey, name), folder / name, announced)
        return folder

    def base(self, task_id: str) -> BaseFiles:
        """The files of the base of a task that continues another. Raises ApiRefused (not_found) for a task on a base that others have."""
        return self._asked(BaseFiles, "GET", task_path(task_id, "base"))

    def download_base(self, task_id: str, base: BaseFiles, folder: Path) -> Path:
        """A base's files in `folder`, each checked against its digest, and all of them against the base's."""
        if digest_of({path: file.sha256 for path, file in base.files.items()}) != base.digest:
            raise PeerUnreachable("The validator lists the files of another base than it names")
        for path, announced in base.files.items():
            if not re.fullmatch(FILE_PATH, path):
                raise PeerUnreachable(f"The validator names a file {path[:96]!r}, which no base has")
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            self._fetch(task_path(task_id, "base", *path.split("/")), folder / path, announced)
        return folder

    def contact_sheet(self, task_id: str, target: Path) -> Path:
        """The picture of what everybody made of the held-out images, in `target`. Raises ApiRefused for a task without one."""
        response = self._answered("GET", task_path(task_id, "contact-sheet"))
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, response.content)
        return target

    def try_rewards(self, trial: RewardTrial) -> RewardVerdict:
        """What rewards say of some rows and answers; nothing is posted."""
        return self._asked(
            RewardVerdict, "POST", TRY_REWARDS, json=trial.model_dump(mode="json"), timeout=TRIAL_TIMEOUT
        )

    def account(self) -> Account:
        """Whose key this is, and how much of each limit is used."""
        return self._asked(Account, "GET", ACCOUNT)

    def keys(self) -> tuple[ApiKey, ...]:
        """The customer's keys, newest first; wants a key with the scope admin."""
        return self._asked(KeyList, "GET", KEYS).keys

    def make_key(self, wanted: NewKey) -> MadeKey:
        """A new key of the same customer, shown this once; wants a key with the scope admin."""
        return self._asked(MadeKey, "POST", KEYS, json=wanted.model_dump(mode="json"))

    def revoke_key(self, key_id: str) -> ApiKey:
        """A key, made useless; wants a key with the scope admin."""
        return self._asked(ApiKey, "DELETE", key_path(key_id))

    def _fetch(self, path: str, target: Path, announced: ModelFile) -> None:
        """A file, whole and as it was announced."""
        digest = hashlib.sha256()
        with whole_file(target) as file:
            try:
                with self._http.stream("GET", path) as response:
                    response.raise_for_status()
                    for chunk in response.iter_bytes(CHUNK_BYTES):
                        digest.update(chunk)
                        file.write(chunk)
            except httpx.HTTPError as error:
                raise PeerUnreachable(f"{target.name} could not be downloaded: {error}") from error
            if digest.hexdigest() != announced.sha256:
                raise PeerUnreachable(f"{target.name} arrived damaged", fix="Try again")

    @contextlib.contextmanager
    def _stream(self, task_id: str, after: int) -> Iterator[EventSource]:
        with self._http.stream("GET", task_path(task_id, "events"), headers=heard(after)) as response:
            if not response.is_success:
                response.read()
                raise refusal(response)
            yield EventSource(response)

    def _asked(self, model: type[Model], method: str, path: str, **options: object) -> Model:
        return read(model, self._answered(method, path, **options))

    def _answered(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 (httpx names them one by one)
        """A successful answer."""
        lost = 0
        while True:
            try:
                response = self._http.request(method, path, **options)
            except httpx.HTTPError as error:
                lost += 1
                if not may_repeat(options.get("headers"), error, lost=lost):
                    raise unreachable(self._http.base_url, error) from error
                time.sleep(REST_SECONDS * lost)
                continue
            if response.is_success:
                return response
            refused = refusal(response)
            wait = worth_waiting(refused)
            if wait is None or not isinstance(options.get("content", b""), bytes):  # a stream that was sent is gone
                raise refused
            time.sleep(wait)


def is_local(source: Json) -> bool:
    """Whether a source lies on this machine: it is neither hosted anywhere nor uploaded already."""
    return isinstance(source, str) and not source.startswith((*HOSTED_PREFIXES, UPLOAD_PREFIX))


def connect(settings: CustomerSettings, *, on_upload: OnUpload = lambda *_: None) -> MarketClient:
    """A client by these settings. Raises SetupError when there is no key."""
    return MarketClient(settings.api_url, key_of(settings), on_upload=on_upload)


def key_of(settings: CustomerSettings) -> str:
    """The key that these settings name. Raises SetupError when there is none."""
    file = settings.api_key_file.expanduser()
    try:
        return settings.api_key or file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SetupError(
            f"There is no API key: none was given and {file} cannot be read",
            fix="Give --api-key or set GRADIENTS_API_KEY; the operator makes keys with `gradients validator key`",
        ) from error
