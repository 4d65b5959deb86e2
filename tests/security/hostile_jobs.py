"""Worker functions that strangers' bytes have taken over: what they try, and what it comes to."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gradients.domain.json import JsonObject
from gradients.execution.job import ReportProgress

GOT = "got it"
_NEW_USER_NAMESPACE, _PTRACE_SEIZE, _IO_URING_SETUP = 0x10000000, 0x4206, 425


def look_around(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """What came of each attempt, by what it was for: GOT, or whatever stood in the way.

    Arguments: `files` to read and `folders` to write to that are none of the job's business, `ports` on loopback, the process id of the
    `parent`, a `secret` of its environment, and `own`, a folder that is the job's.
    """
    parent, secret = int(str(arguments["parent"])), str(arguments["secret"]).encode()
    libc = ctypes.CDLL(None, use_errno=True)

    def read(path: str) -> bool:
        return bool(Path(path).read_bytes())

    def write(folder: str) -> bool:
        return (Path(folder) / "left").write_text("x") > 0

    def connect(port: str) -> bool:
        with socket.create_connection(("127.0.0.1", int(port)), timeout=5):
            return True

    def signal() -> bool:
        os.kill(parent, 0)
        return True

    def call(function: str, *values: int) -> bool:
        if getattr(libc, function)(*values) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return True

    attempts: dict[str, Callable[[], object]] = {
        **{f"read {path}": partial(read, path) for path in _texts(arguments["files"])},
        **{f"write {path}": partial(write, path) for path in _texts(arguments["folders"])},
        **{f"connect {port}": partial(connect, port) for port in _texts(arguments["ports"])},
        "environment": lambda: any(secret in _content(file) for file in Path("/proc").glob("[0-9]*/environ")),
        "processes": lambda: any(b"gradients.execution.worker" not in line for line in _command_lines()),
        "memory": lambda: os.open(f"/proc/{parent}/mem", os.O_RDWR),
        "signal": signal,
        "ptrace": partial(call, "ptrace", _PTRACE_SEIZE, parent, 0, 0),
        "namespace": partial(call, "unshare", _NEW_USER_NAMESPACE),
        "io_uring": partial(call, "syscall", _IO_URING_SETUP, 1, 0),
        "rights": lambda: int(_status("CapEff"), 16) | int(_status("CapBnd"), 16),
        "own folder": lambda: (Path(str(arguments["own"])) / "mine").write_text("x"),
        "threads and processes": lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
    }
    return {what: _tried(attempt) for what, attempt in attempts.items()}


def _tried(attempt: Callable[[], object]) -> str:
    try:
        return GOT if attempt() else "nothing"
    except OSError as error:
        return f"{type(error).__name__}: {error}"


def leave_traps(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Leaves links to the file `secret` where results, errors and logs are read and written, and says nonsense."""
    folder, secret = Path.cwd(), str(arguments["secret"])
    os.write(int(_progress()), b"[" * 5000 + b"\n[1, 2]\n\xff\n" + b'{"step": 1}\n')
    for name in ("result.json", "error.json", "stderr.log", "../stderr.log", "../job.json"):
        try:
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(secret)
        except OSError:
            continue
    os._exit(int(str(arguments.get("status", 0))))


def take(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Takes more than its limit of `what`: memory, processor or files."""
    what, held = arguments["what"], list[object]()
    while True:
        if what == "memory":
            held.append(bytearray(64 * 1024 * 1024))
        elif what == "files":
            held.append(Path("/dev/null").open("rb"))  # noqa: SIM115 (it keeps them open)


def _progress() -> str:
    """The descriptor that the worker was started with for its reports."""
    return Path("/proc/self/cmdline").read_bytes().split(b"\0")[-2].decode()


def _texts(given: object) -> list[str]:
    assert isinstance(given, list)
    return [str(one) for one in given]


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


def _command_lines() -> list[bytes]:
    return [line for file in Path("/proc").glob("[0-9]*/cmdline") if (line := _content(file))]


def _status(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split(":")[1].strip() for line in lines if line.startswith(name))
