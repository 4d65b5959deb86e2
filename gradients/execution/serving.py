"""The worker that serves one job after the other: it loads what they share, and each runs in a copy of it (a fork) that ends with the job.

Covers, in a sandbox: a job finds the worker as the one before found it. Its process and all that it started are killed before its end is
told, so nobody is there to see the next job's files; it inherits no descriptor of the worker's, and cannot read or write its memory (the
worker is not "dumpable", and a sandbox has no rights over others); what it may have put into the pipe of commands is thrown away, and
scratch space is emptied. It can end the worker, which costs a start. Does not cover: flaws of the kernel, and jobs outside of a sandbox,
which may do whatever the user may.

The worker has no thread but its own when it forks, and never starts a GPU; a job does that itself.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from gradients.domain.json import JsonObject
from gradients.execution.functions import resolve
from gradients.execution.lines import LineSplitter
from gradients.execution.records import LEFT, read_job
from gradients.execution.staging import COMMANDS, GIVEN, LOG, TAKEN
from gradients.execution.worker import work

_PR_SET_DUMPABLE = 4  # linux/prctl.h
_CHUNK_BYTES = 64 * 1024
_PIPE_CHUNKS = 16  # that a pipe of the kernel's usual size may hold, and more
_LOOK_SECONDS = 0.001
_FIRST_PROCESS = 1  # of a sandbox: its own, which no signal from inside ends
_SHARED_SCRATCH = Path("/tmp")  # noqa: S108 (the sandbox's own)


def serve(arguments: JsonObject, report: Callable[[JsonObject], None]) -> JsonObject:
    """Load what `function` loads, say {"ready": true}, and run every job that is named; never returns.

    Args:
        arguments: {"function", "arguments", "folder", "sandboxed"}; `folder` holds `given` and `taken`.
        report: told {"job", "told"} for each progress object of a job, and {"job", "status"} when it has ended.
    """
    function, folder = str(arguments["function"]), Path(str(arguments["folder"]))
    held = arguments["arguments"]
    assert isinstance(held, dict)  # noqa: S101 (our own words)
    resolve(function)(held, lambda _: None)
    gc.collect()
    gc.freeze()  # a collection in a copy would touch, and so copy, every object's page
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    commands = (folder / GIVEN / COMMANDS).open("rb", buffering=0)
    report({"ready": True})
    for number in itertools.count():
        if (line := commands.readline()) != f"{number}\n".encode():
            sys.exit(f"job {number} was to come, and not {line!r}")
        status = _run(folder, str(number), report, woken=woken)
        if arguments["sandboxed"]:
            _end_others()
            _empty(_SHARED_SCRATCH)
            while select.select([commands], [], [], 0)[0]:  # nobody gives a job before the last one's end is told
                os.read(commands.fileno(), _CHUNK_BYTES)
        _empty(Path.cwd())
        report({"job": str(number), "status": status})
    raise AssertionError("there is a next number always")


def _run(folder: Path, name: str, report: Callable[[JsonObject], None], *, woken: int) -> int:
    """The exit status of the copy that ran the job; negative for the signal that killed it."""
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _become(folder, name, parent=parent, progress=writing)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as stream:
        for told in _until_end(child, stream.fileno(), woken):
            report({"job": name, "told": told})
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it has started
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _become(folder: Path, name: str, *, parent: int, progress: int) -> NoReturn:
    """Run the job in this copy and end it."""
    status = 1
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        taken = folder / TAKEN / name
        log = os.open(taken / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _close_all_but(0, 1, 2, progress)
        own = str(taken / LEFT)
        os.environ |= {"HOME": own, "TMPDIR": own}
        os.chdir(own)
        status = work(read_job(folder / GIVEN / name), taken, parent=parent, progress=progress)
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)  # nothing that the worker has registered for its own end is this copy's


def _close_all_but(*kept: int) -> None:
    """Close what the worker has open: its own ways to the daemon above all. Objects that stand for these live until the end."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (numbers)
        if int(name) not in kept:
            with suppress(OSError):  # the one through which this list was read
                os.close(int(name))


def _until_end(child: int, stream: int, woken: int) -> Iterator[JsonObject]:
    """What the copy tells, until it has ended; it is left for its parent to wait for."""
    lines, is_open = LineSplitter(), True
    while True:
        ready, _, _ = select.select([woken, *([stream] if is_open else [])], [], [])
        if stream in ready:
            chunk = os.read(stream, _CHUNK_BYTES)
            is_open = bool(chunk)
            yield from _objects(lines.feed(chunk))
        if woken in ready:
            os.read(woken, _CHUNK_BYTES)
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break
    for _ in range(_PIPE_CHUNKS):  # what still lies in the pipe; a process that it has left behind may write for ever
        if not is_open or not select.select([stream], [], [], 0)[0] or not (chunk := os.read(stream, _CHUNK_BYTES)):
            break
        yield from _objects(lines.feed(chunk))


def _objects(lines: list[bytes]) -> Iterator[JsonObject]:
    for line in lines:
        with suppress(ValueError, RecursionError):  # strangers' bytes may have taken the copy over
            if isinstance(told := json.loads(line), dict):
                yield told


def _end_others() -> None:
    """Kill every other process of the sandbox. A process that is being killed starts no further one, so once is enough."""
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)  # neither this process nor the first one
    with suppress(ChildProcessError):
        while os.waitpid(-1, 0):
            pass
    ours = {str(_FIRST_PROCESS), str(os.getpid())}
    while any(place.name.isdecimal() and place.name not in ours for place in Path("/proc").iterdir()):
        time.sleep(_LOOK_SECONDS)


def _empty(folder: Path) -> None:
    """Remove what lies in the folder, but for what is mounted there."""
    device, found = folder.stat().st_dev, []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if os.lstat(f"{place}/{name}").st_dev == device]
        found += [Path(place, name) for name in files if os.lstat(f"{place}/{name}").st_dev == device]
        found += [Path(place, name) for name in folders]
    for left in reversed(found):
        if left.is_dir() and not left.is_symlink():
            with suppress(OSError):  # the way to what is mounted
                left.rmdir()
        else:
            left.unlink()
