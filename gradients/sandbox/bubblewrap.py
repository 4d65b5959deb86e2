"""Runs a program that we have not written: no network, no files, no other processes, and no more than its limits.

Covers: a read-only Python with its standard library, and 16 MiB of scratch space, are all that the program sees; it has a user of its own
without rights, namespaces of its own, a filter of system calls, and limits on processor time, wall time, memory and output. Nothing of
it outlives the call. Does not cover: flaws of the kernel behind the calls that are left, and what the time of a run tells.

Fails closed: without bubblewrap, or where it may not work, nothing is run.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import IO, NamedTuple, cast

from pydantic import JsonValue

from gradients.errors import SetupError
from gradients.sandbox import inside
from gradients.sandbox.limits import ProgramLimits, ProgramStopped
from gradients.sandbox.mending import mend
from gradients.sandbox.seccomp import filter_program

_SCRATCH_BYTES = 16 * 1024 * 1024
_SYSTEM_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64")  # shared libraries
_SHOWN_COMPLAINT = 300  # characters of what a program complained of
NOBODY = "65534"


class _Ending(NamedTuple):
    """How a run ended."""

    status: int | None  # the program's exit status, 128 + signal when one killed it; None when it was never started
    in_time: bool
    answer: bytes
    complaint: str


def is_installed() -> bool:
    """Whether there is a bubblewrap at all; only a run shows whether it may work."""
    return shutil.which("bwrap") is not None


def bwrap() -> str:
    """Where bubblewrap is. Raises SetupError when it is not installed."""
    found = shutil.which("bwrap")
    if found is None:
        raise SetupError(
            "This needs a sandbox, and bubblewrap is not installed",
            code="sandbox_missing",
            fix="apt-get install bubblewrap (Linux); nothing is run without it",
        )
    return found


def run(program: Path, given: JsonValue, *, limits: ProgramLimits = ProgramLimits()) -> JsonValue:  # noqa: B008 (frozen)
    """What `main(given)` of the Python file `program` returns, computed inside a sandbox.

    Raises ProgramStopped when the program gives no answer, and SetupError when there is no sandbox to run it in.
    """
    ending = _run(program, json.dumps(given).encode(), limits)
    if ending.status is None and ending.in_time:
        raise SetupError(
            f"The sandbox could not be set up: {ending.complaint or 'bwrap gave no reason'}",
            code="sandbox_refused",
            fix=mend(ending.complaint),
        )
    if ending.status != 0:
        raise _stopped(ending, limits)
    try:
        return cast(JsonValue, json.loads(ending.answer))
    except (ValueError, RecursionError) as error:
        raise ProgramStopped("A program ended without an answer that can be read") from error


def _run(program: Path, given: bytes, limits: ProgramLimits) -> _Ending:
    with (
        tempfile.TemporaryFile() as stdin,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
        tempfile.TemporaryFile() as status,
        tempfile.TemporaryFile() as seccomp,
    ):
        for file, content in ((stdin, given), (seccomp, filter_program())):
            file.write(content)
            file.seek(0)
        command = [
            *_sandbox(program),
            *("--seccomp", str(seccomp.fileno()), "--json-status-fd", str(status.fileno())),
            # the interpreter itself, not a virtual environment's link to it: alone with its standard library
            *(str(_interpreter()), "-S", "-B", "-P", "-X", "utf8", "/inside.py"),
            *map(str, (limits.cpu_seconds, limits.memory_bytes, limits.output_bytes)),
        ]
        passed = (seccomp.fileno(), status.fileno())
        in_time = _wait(command, limits, files=(stdin, stdout, stderr), passed=passed)
        # What bwrap wrote; it says nothing of an exit when the program was never started.
        status.seek(0)
        said = [json.loads(line) for line in status.read().splitlines()]
        stdout.seek(0)
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - 4 * _SHOWN_COMPLAINT))
        return _Ending(
            status=next((int(line["exit-code"]) for line in said if "exit-code" in line), None),
            in_time=in_time,
            answer=stdout.read(limits.output_bytes),
            complaint=" ".join(stderr.read().decode(errors="replace").split())[-_SHOWN_COMPLAINT:],
        )


def _wait(command: list[str], limits: ProgramLimits, *, files: tuple[IO[bytes], ...], passed: tuple[int, ...]) -> bool:
    """Whether the command ended before its wall time; it has ended in any case, and so has everything inside."""
    stdin, stdout, stderr = files
    process = subprocess.Popen(  # noqa: S603 (bwrap and its arguments are ours)
        command, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=passed, env={}
    )
    try:
        process.wait(limits.wall_seconds)
    except subprocess.TimeoutExpired:
        return False
    finally:
        process.kill()  # its first process inside dies with it, and the others with that one
        process.wait()
    return True


def _sandbox(program: Path) -> list[str]:
    return [
        bwrap(),
        *("--unshare-user", "--unshare-all", "--disable-userns", "--uid", NOBODY, "--gid", NOBODY),
        *("--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"),
        *("--setenv", "PYTHONHASHSEED", "0", "--setenv", "LANG", "C.UTF-8"),
        *_python_files(),
        *("--ro-bind", inside.__file__, "/inside.py", "--ro-bind", str(program), inside.PROGRAM),
        *("--size", str(_SCRATCH_BYTES), "--tmpfs", "/tmp", "--dev-bind", os.devnull, os.devnull),  # noqa: S108 (inside)
        *("--remount-ro", "/", "--chdir", "/tmp"),  # noqa: S108 (as above)
    ]


def _interpreter() -> Path:
    # a virtual environment may hold a copy instead of a link
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def python_files() -> set[Path]:
    """The interpreter, its standard library and its shared library."""
    shown = {_interpreter(), *(Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))}
    if shared := sysconfig.get_config_var("INSTSONAME"):
        shown.add(Path(sysconfig.get_config_var("LIBDIR")) / shared)
    return {path for path in shown if path.exists()}


def _python_files() -> list[str]:
    """Arguments that show the interpreter, its standard library and the libraries that they load, read-only."""
    arguments = []
    for folder in map(Path, _SYSTEM_FOLDERS):
        if folder.is_symlink():
            arguments += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            arguments += ["--ro-bind", str(folder), str(folder)]
    for path in sorted(python_files()):
        arguments += ["--ro-bind", str(path), str(path)]
    return [*arguments, "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]


def _stopped(ending: _Ending, limits: ProgramLimits) -> ProgramStopped:
    if not ending.in_time or ending.status in (128 + signal.SIGXCPU, 128 + signal.SIGKILL):
        return ProgramStopped(f"A program took more than {limits.cpu_seconds} s", code="program_slow")
    if ending.status == inside.EXIT_MEMORY:
        return ProgramStopped(f"A program took more than {limits.memory_bytes:,} bytes", code="program_memory")
    if ending.status == inside.EXIT_OUTPUT:
        return ProgramStopped(f"A program answered more than {limits.output_bytes:,} bytes", code="program_output")
    return ProgramStopped(f"A program broke off: {ending.complaint or f'exit status {ending.status}'}")
