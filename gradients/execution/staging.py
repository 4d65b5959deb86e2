"""The files of a job, where a worker that serves several jobs finds them, and back again.

Covers: such a worker sees two folders of its own, one to read and one to write. A job's files are linked into them before it and taken out
after it, so that no job sees another one's. What lies in the folder to write is a stranger's: what stands where a folder was made is moved
only if it is a folder still, and no link is followed. Nobody writes there any more by then.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gradients.errors import OperatorError
from gradients.execution.job import Job
from gradients.execution.lines import TAIL_BYTES
from gradients.execution.records import LEFT, write_job
from gradients.execution.relocation import relocated
from gradients.files.plain import read_tail

GIVEN, TAKEN = "given", "taken"  # the folders that the worker reads from and writes to
COMMANDS = "commands"  # a named pipe in the former: a job's name a line
LOG = "stderr.log"


@dataclass(frozen=True, slots=True)
class Staging:
    """The two folders of a worker, below `folder`."""

    folder: Path

    @property
    def given(self) -> Path:
        """What the worker reads."""
        return self.folder / GIVEN

    @property
    def taken(self) -> Path:
        """What it writes to."""
        return self.folder / TAKEN

    def put(self, job: Job, name: str) -> None:
        """Lay out a job: what it reads, as links where the file system allows, and empty folders for what it writes."""
        given, taken = self.given / name, self.taken / name
        for folder in (given, taken / LEFT, *(taken / str(number) for number in range(len(job.writes)))):
            folder.mkdir(parents=True)
        for place, staged in self._reads(job, name).items():
            if place.is_dir():
                shutil.copytree(place, staged, copy_function=_link)
            elif place.exists():
                _link(place, staged)
        places = {**self._reads(job, name), **{p: taken / str(n) for n, p in enumerate(job.writes)}}
        write_job(given, job, relocated(job.arguments, places))

    def collect(self, job: Job, name: str) -> bytes:
        """Move what the worker left to where the job wants it; the end of what it said on stderr."""
        taken = self.taken / name
        said = b""
        if not _is_folder(taken):
            return said
        with suppress(OSError, OperatorError):
            said = read_tail(taken / LOG, most_bytes=TAIL_BYTES)
            (job.folder / LOG).write_bytes(said)
        shutil.rmtree(job.folder / LEFT, ignore_errors=True)
        if _is_folder(taken / LEFT):
            (taken / LEFT).rename(job.folder / LEFT)
        for number, place in enumerate(job.writes):
            if _is_folder(taken / str(number)):
                for left in sorted((taken / str(number)).iterdir()):
                    _replace(left, place / left.name)
        return said

    def clear(self) -> None:
        """Leave nothing of any job in the worker's folders; raises OSError or RecursionError where a job has seen to it that this fails."""
        for left in [*self.given.iterdir(), *self.taken.iterdir()]:
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            elif left.name != COMMANDS or left.parent != self.given:
                left.unlink()

    def _reads(self, job: Job, name: str) -> Mapping[Path, Path]:
        """What has to be staged, and where: all that the job reads and its worker does not hold."""
        held = job.holds.reads if job.holds else ()
        staged = [place for place in job.reads if place not in held]
        return {place: self.given / name / f"{number}{place.suffix}" for number, place in enumerate(staged)}


def _is_folder(path: Path) -> bool:
    """Whether a folder stands there, and not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _replace(left: Path, place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    left.rename(place)


def _link(source: str | Path, target: str | Path) -> str:
    """A second name for a file, or a copy where there can be none. What it links to is not followed by later changes of names."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
    return str(target)
