"""The folders that a daemon writes to: whether it may, whether there is room, and whether others may read them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from gradients.doctor.findings import Finding, at_least
from gradients.doctor.machine import GIB
from gradients.files.disk import FREE_BYTES_KEPT, is_full
from gradients.files.locks import open_alone
from gradients.files.private import OTHERS, make_private

LEAST_FREE_GIB = 20
_TRIAL_BYTES = 65_536


def folder(place: Path, *, name: str, flag: str, least_gib: int = LEAST_FREE_GIB) -> Iterator[Finding]:
    """What there is to say of a folder that is written to. Nothing is made but a small file, which goes at once.

    Args:
        flag: what names another one, for advice.
    """
    there = next(path for path in (place, *place.parents) if path.exists())
    elsewhere = f"name a folder on another disk: {flag}"
    if not there.is_dir():
        yield Finding(name, "missing", f"{there} is not a folder", f"name another one: {flag}")
    elif (error := _writing_error(there)) is None:
        free = shutil.disk_usage(there).free
        if free < FREE_BYTES_KEPT:
            found = f"{free >> 20} MiB free at {there}; below {FREE_BYTES_KEPT >> 20} MiB no work is taken on"
            yield Finding(name, "missing", found, f"free some space, or {elsewhere}")
        else:
            yield at_least(least_gib, free / GIB, name=name, unit=f"GiB free at {there}")
    elif is_full(error):
        yield Finding(name, "missing", f"no room at {there}: {error.strerror}", f"free some space, or {elsewhere}")
    else:
        found = f"{there} cannot be written: {error.strerror}"
        yield Finding(name, "missing", found, f"give it to this user (chown -R {os.getuid()} {there}), or {elsewhere}")


def own_folder(place: Path) -> Iterator[Finding]:
    """The one folder that a daemon keeps everything in, which is for its owner alone."""
    yield from folder(place, name="folder", flag="--folder")
    if not place.exists():
        yield Finding("rights", "ok", f"{place} is made by the first start", mend=lambda: _make(place))
    elif place.is_dir() and place.stat().st_mode & OTHERS:
        found = f"other users of this machine can read {place}"
        yield Finding("rights", "note", found, f"chmod -R go= {place}, or --fix", lambda: close(place))


def is_at_work(place: Path) -> bool:
    """Whether a daemon holds the folder now."""
    lock = place / ".lock"
    if not lock.is_file():
        return False
    try:
        open_alone(lock).close()
    except BlockingIOError:
        return True
    except OSError:  # whatever is the matter with the folder is another finding
        return False
    return False


def _writing_error(there: Path) -> OSError | None:
    """What comes of writing a file in an existing folder, or None."""
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None


def is_short(place: Path) -> bool:
    """Whether there is less room for a folder than work goes well with."""
    there = next(path for path in (place, *place.parents) if path.exists())
    return shutil.disk_usage(there).free < LEAST_FREE_GIB * GIB


def _make(place: Path) -> str:
    place.mkdir(parents=True, mode=0o700)
    return f"made {place} for this user alone"


def close(place: Path) -> str:
    """Take others' rights from a file, or from a folder and all that is in it; what was done."""
    return f"took others' rights from {make_private(place):,} files and folders at {place}"
