"""What lies in the cache of bases, and taking something out of it. A base that is taken out is fetched again when a task names it.

Covers: several processes with one cache. Each use of a base is noted in a file beside it, and counts for LEASE_SECONDS; daemons note those
of their running tasks again and again. Removal asks for the lock under which uses are noted, and looks again. Does not cover: a daemon
that has stood still for longer than that, whose bases others may take out.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from gradients.errors import OperatorError
from gradients.files.disk import writing
from gradients.files.locks import in_turn, open_alone
from gradients.log import get_logger

LEASE_SECONDS = 6 * 3600.0  # daemons look once an hour, at the least

log = get_logger("bases")

_HALF = re.compile(r"^\.(?P<key>.+)\.(part|gone)$")  # of a fetch, or of a removal, that was interrupted


@dataclass(frozen=True, slots=True)
class Held:
    """A base in the cache."""

    name: str  # as tasks name it, with its revision
    folder: Path
    bytes: int
    fetched_at: float  # seconds since the Unix epoch
    used_at: float  # the same: when something asked for it last, or wrote to it
    is_whole: bool  # or what an interrupted fetch or removal left


def held(cache: Path) -> list[Held]:
    """Every base in the cache, the largest first."""
    found = []
    for folder in cache.iterdir() if cache.is_dir() else ():
        if folder.is_symlink() or not folder.is_dir():
            continue
        files = [path.stat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        about = folder.stat()
        size, name = sum(file.st_size for file in files), _key(folder).replace("--", "/", 1)
        is_whole = _key(folder) == folder.name
        written_at = (
            max(about.st_mtime, *(file.st_mtime for file in files)) if files and not is_whole else about.st_mtime
        )
        used_at = max(written_at, _used_at(cache, _key(folder)))
        found.append(Held(name, folder, size, about.st_mtime, used_at, is_whole=is_whole))
    return sorted(found, key=lambda each: -each.bytes)


def use(cache: Path, key: str) -> None:
    """Note that a base of the cache is in use from now on, before whoever asks looks whether it is there.

    Args:
        key: the name of its folder.
    """
    if (cache / key).is_dir():
        with (
            contextlib.suppress(OperatorError),
            in_turn(cache / f".{key}.lock"),
        ):  # others may have made a cache that is read only
            (cache / f".{key}.used").touch()


def keep_within(cache: Path, most_bytes: int | None, *, now: float | None = None) -> list[Held]:
    """Take out what nothing has used for longest, until the rest has `most_bytes` at most; what went. Bases in use stay.

    Args:
        most_bytes: by default half of the disk.
    """
    if not cache.is_dir():
        return []
    found, gone = held(cache), list[Held]()
    most = most_bytes or shutil.disk_usage(cache).total // 2
    oldest, size = (time.time() if now is None else now) - LEASE_SECONDS, sum(each.bytes for each in found)
    for base in sorted(found, key=lambda each: each.used_at):
        if size > most and base.used_at < oldest and _drop_unused(base, since=oldest):
            size -= base.bytes
            gone.append(base)
            log.info(
                "base_evicted",
                base=base.name,
                bytes=base.bytes,
                unused_hours=round((oldest + LEASE_SECONDS - base.used_at) / 3600),
            )
    if size > most:
        log.warning("more_is_needed_than_the_limit", what="bases", held_bytes=size, most_bytes=most)
    return gone


def _drop_unused(base: Held, *, since: float) -> bool:
    """Take a base out, unless somebody has used it meanwhile or is at it now; whether it went."""
    key = _key(base.folder)
    try:
        with open_alone(base.folder.parent / f".{key}.lock"):
            if _used_at(base.folder.parent, key) >= since or not base.folder.is_dir():
                return False
            _remove(base.folder, key)
    except OSError:  # somebody fetches it, or notes that it is in use; or a cache that this user cannot write
        return False
    return True


def drop(base: Held) -> None:
    """Take a base out, while nobody fetches it. Workers that have its files open go on with them. Raises OperatorError (unwritable)."""
    key = _key(base.folder)
    with in_turn(base.folder.parent / f".{key}.lock"):
        _remove(base.folder, key)


def _remove(folder: Path, key: str) -> None:
    gone = folder.with_name(f".{key}.gone")
    with writing(folder):
        if folder != gone:
            shutil.rmtree(gone, ignore_errors=True)
            folder.rename(gone)  # at once: nobody finds half of a base
        shutil.rmtree(gone)
        folder.with_name(f".{key}.used").unlink(missing_ok=True)


def _used_at(cache: Path, key: str) -> float:
    """When it was noted last, or 0."""
    try:
        return (cache / f".{key}.used").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _key(folder: Path) -> str:
    """The name that a folder has, or would have once it is whole."""
    half = _HALF.match(folder.name)
    return half["key"] if half else folder.name
