"""The customers' API as calls for asyncio: the same names, answers and errors as in `api.py`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import anyio
import httpx
from httpx_sse import EventSource, SSEError
from pydantic import BaseModel

from gradients.bases.bases import digest_of
from gradients.bases.continued import FILE_PATH
from gradients.client.account import Account, ApiKey, KeyList, MadeKey, NewKey
from gradients.client.answers import ApiRefused, is_outage, read, refusal, told, unreachable, worth_waiting
from gradients.client.api import EVERYTHING, is_local, key_of
from gradients.client.estimates import Estimate
from gradients.client.folders import as_file
from gradients.client.held_out import USUAL_ROWS, HeldOutRow, HeldOutRows, Order
from gradients.client.models import BEST, TaskDetails, TaskEvent, TaskList, TaskProgress, TaskSummary
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
from gradients.errors import OutsideError, PeerUnreachable
from gradients.files.digest import file_sha256
from gradients.files.whole import whole_file
from gradients.repo.manifest import is_file_name
from gradients.tasks.registry import with_sources

Model = TypeVar("Model", bound=BaseModel)


class AsyncMarketClient:
    """One customer at one validator; see MarketClient for what its calls raise."""

    def __init__(self, url: str, key: str, *, on_upload: OnUpload = lambda *_: None) -> None:
        """Args:
        on_upload: told how far the upload of a file is.
        """
        self._on_upload = on_upload
        self._http = httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def submit(self, spec: Mapping[str, Json], *, idempotency_key: str | None = None) -> TaskSummary:
        """Post a task; data that lies on this machine is uploaded first. A request whose answer was lost is sent again.

        Args:
            idempotency_key: two calls with the same one, within a day, post one task; by default each call has its own.
        """
        json = await self.uploaded(spec)
        return await self._asked(TaskSummary, "POST", TASKS, json=json, headers=posting(idempotency_key))

    async def estimate(self, spec: Mapping[str, Json]) -> Estimate:
        """What a spec will take: rows, tokens, weights, speed, hours."""
        json = await self.uploaded(spec)
        return await self._asked(Estimate, "POST", ESTIMATES, json=json, timeout=ESTIMATE_TIMEOUT)

    async def uploaded(self, spec: Mapping[str, Json]) -> dict[str, Json]:
        """The spec with data that lies on this machine uploaded; again, it stays as it is."""
        local = list[str]()
        with_sources(spec, lambda source: local.append(str(source)) if is_local(source) else source)
        names = {path: await self.upload(Path(path)) for path in dict.fromkeys(local)}
        return with_sources(spec, lambda source: names.get(source, source) if isinstance(source, str) else source)

    async def upload(self, file: Path) -> str:
        """Upload a file, or a folder as one; the name to use as a task's data set. A large one goes in pieces, and on after a break."""
        with contextlib.ExitStack() as made:
            whole = await asyncio.to_thread(made.enter_context, as_file(file))
            size = whole.stat().st_size
            if size > PIECE_BYTES:
                return await self._upload_in_pieces(whole, size)
            answer = await self._asked(Upload, "POST", DATASETS, params={"name": whole.name}, content=_chunks(whole))
            self._on_upload(whole.name, size, size)
            return answer.dataset

    async def uploads(self, *, sha256: str | None = None) -> tuple[UploadStanding, ...]:
        """The customer's uploads in pieces, newest first; those of a file with this digest alone when one is given."""
        return (await self._asked(UploadList, "GET", UPLOADS, params={"sha256": sha256} if sha256 else None)).uploads

    async def drop_upload(self, upload_id: str) -> None:
        """Give an upload in pieces up; what it has become, if it was whole, stays."""
        await self._answered("DELETE", upload_path(upload_id), headers=TUS)

    async def _upload_in_pieces(self, file: Path, size: int) -> str:
        loop, sha256 = asyncio.get_running_loop(), await asyncio.to_thread(file_sha256, file)
        standing = begun_before(await self.uploads(sha256=sha256), file)
        where = upload_path(standing.id) if standing else await self._begun(begin_headers(file, size, sha256=sha256))
        begins_at = standing.offset if standing else 0
        offset: int | None = begins_at
        course = Course(begins_at, loop.time())
        while True:
            try:
                if offset is None or offset == size:
                    standing = await self._asked(UploadStanding, "GET", where, timeout=ENDING_TIMEOUT)
                    if standing.dataset is not None:
                        return standing.dataset
                    if course.moves(standing.offset, now=loop.time()):
                        # By another process: it need not come twice.
                        await asyncio.sleep(REST_SECONDS)
                        continue
                    offset = standing.offset
                piece = await asyncio.to_thread(piece_of, file, offset)
                sent = {"content": piece.content, "headers": piece.headers, "timeout": ENDING_TIMEOUT}
                await self._answered("PATCH", where, **sent)
                offset += len(piece.content)
                course.moves(offset, now=loop.time())
                self._on_upload(file.name, offset, size)
            except (ApiRefused, PeerUnreachable) as error:
                if not goes_on_after(error) or course.is_still(now=loop.time()):
                    raise
                offset = None
                await asyncio.sleep(REST_SECONDS)

    async def _begun(self, headers: Mapping[str, str]) -> str:
        return (await self._answered("POST", UPLOADS, headers=headers)).headers["Location"]

    async def tasks(self, wanted: Wanted = EVERYTHING, *, limit: int = 50, cursor: str | None = None) -> TaskList:
        """A page of the customer's tasks, newest first; its `next` is the cursor of the page after it."""
        return await self._asked(TaskList, "GET", TASKS, params=wanted.query(limit=limit, cursor=cursor))

    async def task(self, task_id: str) -> TaskDetails:
        """One task with everything that may be seen of it now."""
        return await self._asked(TaskDetails, "GET", task_path(task_id))

    async def cancel(self, task_id: str) -> TaskSummary:
        """Take a task back for which no miner has been drawn. Raises ApiRefused (task_begun) for any other."""
        return await self._asked(TaskSummary, "POST", task_path(task_id, "cancel"))

    async def events(self, task_id: str, *, after: int = 0) -> AsyncIterator[TaskEvent | TaskProgress]:
        """What happens to a task until it has ended; a connection that breaks is made again and goes on behind the last event."""
        loop = asyncio.get_running_loop()
        silent_since: float | None = None
        while True:
            try:
                async with self._stream(task_id, after) as source:
                    silent_since = None
                    if source.response.status_code == httpx.codes.NO_CONTENT:
                        return
                    async for event in source.aiter_sse():
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
                silent_since = silent_since or loop.time()
                if loop.time() - silent_since > MOST_SILENT_SECONDS:
                    raise unreachable(self._http.base_url, error) from error
            await asyncio.sleep(REST_SECONDS)

    async def watch(self, task_id: str) -> AsyncIterator[TaskDetails]:
        """The task as it is now, and again whenever something has happened to it, until it has ended."""
        yield (task := await self.task(task_id))
        if task.state.ended:
            return
        async for _ in self.events(task_id, after=task.last_event):
            with contextlib.suppress(OutsideError):  # the stream waits for it
                yield (task := await self.task(task_id))
            if task.state.ended:
                return
        yield await self.task(task_id)

    async def rows(
        self, task_id: str, *, miner: str = BEST, order: Order = "gained", after: int = 0, limit: int = USUAL_ROWS
    ) -> HeldOutRows:
        """A page of a scored task's held-out rows, with what base and miners have on each; its `next` goes on behind it.

        Args:
            miner: whose gains over the base count, a hotkey; by default the winner's.
            order: where the miner gains most first, where it loses most first, or as in the file.
        """
        params = {"miner": miner, "order": order, "after": after, "limit": limit}
        return await self._asked(HeldOutRows, "GET", task_path(task_id, "rows"), params=params)

    async def row(self, task_id: str, number: int, *, miner: str = BEST) -> HeldOutRow:
        """One held-out row of a scored task, whole; the first one has number 1."""
        return await self._asked(HeldOutRow, "GET", task_path(task_id, "rows", str(number)), params={"miner": miner})

    async def model(self, task_id: str, hotkey: str) -> ModelListing:
        """The files of a scored task's model; 'best' names the winner's."""
        return await self._asked(ModelListing, "GET", task_path(task_id, "models", hotkey))

    async def download(self, task_id: str, model: ModelListing, folder: Path) -> Path:
        """A model's files in `folder`, each checked against its digest."""
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        for name, announced in model.files.items():
            if not is_file_name(name):
                raise PeerUnreachable(f"The validator names a file {name[:96]!r}, which no model has")
            await self._fetch(task_path(task_id, "models", model.hotkey, name), folder / name, announced)
        return folder

    async def base(self, task_id: str) -> BaseFiles:
        """The files of the base of a task that continues another. Raises ApiRefused (not_found) for a task on a base that others have."""
        return await self._asked(BaseFiles, "GET", task_path(task_id, "base"))

    async def download_base(self, task_id: str, base: BaseFiles, folder: Path) -> Path:
        """A base's files in `folder`, each checked against its digest, and all of them against the base's."""
        if digest_of({path: file.sha256 for path, file in base.files.items()}) != base.digest:
            raise PeerUnreachable("The validator lists the files of another base than it names")
        for path, announced in base.files.items():
            if not re.fullmatch(FILE_PATH, path):
                raise PeerUnreachable(f"The validator names a file {path[:96]!r}, which no base has")
            await asyncio.to_thread((folder / path).parent.mkdir, parents=True, exist_ok=True)
            await self._fetch(task_path(task_id, "base", *path.split("/")), folder / path, announced)
        return folder

    async def try_rewards(self, trial: RewardTrial) -> RewardVerdict:
        """What rewards say of some rows and answers; nothing is posted."""
        return await self._asked(
            RewardVerdict, "POST", TRY_REWARDS, json=trial.model_dump(mode="json"), timeout=TRIAL_TIMEOUT
        )

    async def account(self) -> Account:
        """Whose key this is, and how much of each limit is used."""
        return await self._asked(Account, "GET", ACCOUNT)

    async def keys(self) -> tuple[ApiKey, ...]:
        """The customer's keys, newest first; wants a key with the scope admin."""
        return (await self._asked(KeyList, "GET", KEYS)).keys

    async def make_key(self, wanted: NewKey) -> MadeKey:
        """A new key of the same customer, shown this once; wants a key with the scope admin."""
        return await self._asked(MadeKey, "POST", KEYS, json=wanted.model_dump(mode="json"))

    async def revoke_key(self, key_id: str) -> ApiKey:
        """A key, made useless; wants a key with the scope admin."""
        return await self._asked(ApiKey, "DELETE", key_path(key_id))

    async def _fetch(self, path: str, target: Path, announced: ModelFile) -> None:
        """A file, whole and as it was announced."""
        digest = hashlib.sha256()
        with whole_file(target) as file:
            try:
                async with self._http.stream("GET", path) as response:
                    response.raise_for_status()
                    async for chunk in response.aiter_bytes(CHUNK_BYTES):
                        digest.update(chunk)
                        await asyncio.to_thread(file.write, chunk)
            except httpx.HTTPError as error:
                raise PeerUnreachable(f"{target.name} could not be downloaded: {error}") from error
            if digest.hexdigest() != announced.sha256:
                raise PeerUnreachable(f"{target.name} arrived damaged", fix="Try again")

    @contextlib.asynccontextmanager
    async def _stream(self, task_id: str, after: int) -> AsyncIterator[EventSource]:
        async with self._http.stream("GET", task_path(task_id, "events"), headers=heard(after)) as response:
            if not response.is_success:
                await response.aread()
                raise refusal(response)
            yield EventSource(response)

    async def _asked(self, model: type[Model], method: str, path: str, **options: object) -> Model:
        return read(model, await self._answered(method, path, **options))

    async def _answered(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 (as httpx)
        lost = 0
        while True:
            try:
                response = await self._http.request(method, path, **options)
            except httpx.HTTPError as error:
                lost += 1
                if not may_repeat(options.get("headers"), error, lost=lost):
                    raise unreachable(self._http.base_url, error) from error
                await asyncio.sleep(REST_SECONDS * lost)
                continue
            if response.is_success:
                return response
            refused = refusal(response)
            wait = worth_waiting(refused)
            if wait is None or not isinstance(options.get("content", b""), bytes):  # a stream that was sent is gone
                raise refused
            await asyncio.sleep(wait)


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(file, "rb") as stream:
        while chunk := await stream.read(CHUNK_BYTES):
            yield chunk


def connect(settings: CustomerSettings) -> AsyncMarketClient:
    """A client by these settings. Raises SetupError when there is no key."""
    return AsyncMarketClient(settings.api_url, key_of(settings))
