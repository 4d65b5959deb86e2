"""What a node keeps of the files that jobs read: each fetched once, by digest, and laid out as the job knows it.

Covers: files that several jobs of this machine want at once; an interrupted transfer; bytes that are not what they should be; a bound on
what is kept. Does not cover: a disk that changes bytes after they were checked.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import httpx

from gradients.cluster.parcel import Tree, TreeFile
from gradients.errors import OutsideError, SubmissionRejected
from gradients.files.disk import writing
from gradients.files.locks import in_turn
from gradients.files.whole import make_folder, whole_folder
from gradients.repo.store import ContentStore

_TRIES = 5
_REST_SECONDS = 1.0
_IN_USE_SECONDS = 6 * 3600.0  # what was named so recently may belong to a job that runs


class KeptFiles:
    """Trees below `folder`, and the bytes that they are made of. Several processes may use one."""

    def __init__(self, folder: Path, *, most_bytes: int) -> None:
        """Args:
        most_bytes: above it, what has not been used for longest goes.
        """
        self._store = ContentStore(folder / "files")
        self._trees = folder / "trees"
        self._most_bytes = most_bytes

    def fetch(self, trees: Sequence[Tree], client: httpx.Client) -> dict[str, Path]:
        """Where each tree lies, by digest. Raises OutsideError when the origin is away or has something else, DiskFull for want of room.

        Args:
            client: speaks to the origin, with the run's token.
        """
        wanted = {file.sha256: file for tree in trees for file in tree.files if not self._place(tree).exists()}
        missing = [file for file in wanted.values() if not self._store.has(file.sha256)]
        if missing:
            self.trim(sum(file.size_bytes for file in missing))
            make_folder(self._store.root)
            self._store.reserve(sum(file.size_bytes for file in missing))
        for file in missing:
            self._fetch_file(file, client)
        return {tree.digest: self._lay_out(tree) for tree in trees}

    def trim(self, wanted_bytes: int = 0) -> int:
        """Drop what was used longest ago until `wanted_bytes` more fit below the bound; how many bytes went."""
        sizes = self._store.sizes()
        total, allowed, unused = sum(sizes.values()), self._most_bytes - wanted_bytes, time.time() - _IN_USE_SECONDS
        dropped = 0
        for tree in sorted(self._trees.glob("*"), key=lambda place: place.stat().st_mtime):
            if total - dropped <= allowed or tree.stat().st_mtime >= unused:
                break
            shutil.rmtree(tree, ignore_errors=True)
            dropped += sum(self._drop_unlinked(sha256, unused) for sha256 in sizes)
        return dropped

    def _drop_unlinked(self, sha256: str, unused: float) -> int:
        """Drop bytes that no tree has; how many."""
        with suppress(FileNotFoundError):
            if self._store.path(sha256).stat().st_nlink == 1:
                return self._store.drop(sha256, untouched_since=unused)
        return 0

    def _place(self, tree: Tree) -> Path:
        return self._trees / tree.digest / tree.name

    def _lay_out(self, tree: Tree) -> Path:
        place = self._place(tree)
        make_folder(self._trees)
        with in_turn(self._trees.parent / "trees.lock"):  # another process may be about to do the same
            if place.exists():
                os.utime(self._trees / tree.digest)
                return place
            with whole_folder(self._trees / tree.digest) as folder:
                top = folder / tree.name if tree.is_folder else folder
                for file in tree.files:
                    target = top / file.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with writing(target):
                        os.link(self._store.path(file.sha256), target)
                if tree.is_folder:
                    top.mkdir(exist_ok=True)
        return place

    def _fetch_file(self, file: TreeFile, client: httpx.Client) -> None:
        part = self._store.part(file.sha256, str(os.getpid()))
        make_folder(part.parent)
        for attempt in range(1, _TRIES + 1):
            try:
                self._go_on(file, part, client)
                self._store.finish(part, file.sha256)
            except (httpx.TransportError, SubmissionRejected) as error:
                if attempt == _TRIES:
                    raise OutsideError(
                        f"{client.base_url} did not give the file {file.sha256[:12]}…: {error}",
                        code="origin_unreachable",
                        fix="Is the validator's exchange address one that this machine reaches? `gradients worker doctor` tries it",
                    ) from error
                time.sleep(_REST_SECONDS * attempt)
            else:
                return

    def _go_on(self, file: TreeFile, part: Path, client: httpx.Client) -> None:
        """Fetch what of the file is missing."""
        have = part.stat().st_size if part.exists() else 0
        if have >= file.size_bytes and part.exists():
            return
        headers = {"Range": f"bytes={have}-"} if have else {}
        with client.stream("GET", f"/v1/files/{file.sha256}", headers=headers) as answer:
            if answer.status_code not in (200, 206):
                raise OutsideError(
                    f"{client.base_url} refused the file {file.sha256[:12]}… with status {answer.status_code}",
                    code="origin_refused",
                )
            with writing(part), part.open("ab" if answer.status_code == 206 else "wb") as stream:
                for chunk in answer.iter_bytes():
                    stream.write(chunk)
