"""Programs that want out, or want everything, inside the real sandbox; and machines that have none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from gradients.errors import Blame, SetupError
from gradients.sandbox.bubblewrap import run
from gradients.sandbox.limits import MEBIBYTE, ProgramLimits, ProgramStopped
from gradients.sandbox.seccomp import filter_program
from gradients.testing.sandboxes import reason_to_skip

Write = Callable[[str], Path]
NO_SANDBOX = reason_to_skip()
needs_sandbox = pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX or "there is one")
SMALL = ProgramLimits(cpu_seconds=1, memory_bytes=128 * MEBIBYTE, output_bytes=100_000, patience=100.0)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a program."""

    def to_file(source: str) -> Path:
        file = tmp_path / "program.py"
        file.write_text(source)
        return file

    return to_file


def returning(expression: str) -> str:
    """A program that says what an expression gives, or which error it raised."""
    return f"""
import ctypes, os, signal, socket, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def called(status):
    return status if status >= 0 else os.strerror(ctypes.get_errno())
def is_open(fd):
    try:
        return bool(os.fstat(fd))
    except OSError:
        return False
def main(given):
    try:
        return {expression}
    except (OSError, RuntimeError) as error:
        return str(error)
"""


@needs_sandbox
@settings(max_examples=10, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_what_goes_in_and_comes_out_is_the_same(value: JsonValue) -> None:
    program = Path(__file__).parent / "echo_program.py"
    assert run(program, value) == value


@needs_sandbox
@pytest.mark.parametrize(
    "expression",
    [
        "os.fork()",
        "threading.Thread(target=print).start()",
        "socket.socket()",
        "socket.socketpair()",
        "os.memfd_create('x')",
        "called(libc.unshare(0x10000000))",
        "called(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))",
        "called(libc.ptrace(16, 1, 0, 0))",
        "called(libc.shmget(0, 4096, 0o1600))",
        "called(libc.personality(0))",
        "os.setuid(0)",
        "os.chroot('/tmp')",
        "os.kill(1, signal.SIGKILL) or os.listdir('/proc')",
        "open('/etc/passwd').read()",
        "open('/inside.py', 'a').write('x')",
        "open('/new', 'w').write('x')",
        "os.listdir('/dev/shm')",
        "open('/sys/kernel/uevent_seqnum').read()",
    ],
)
def test_a_way_out_is_shut(write: Write, expression: str) -> None:
    said = run(write(returning(expression)), None, limits=SMALL)
    refusals = (
        "not permitted",
        "No such file",
        "Read-only",
        "can't start new thread",
        "Permission denied",
        "Invalid argument",
    )
    assert any(refusal in str(said) for refusal in refusals), said


@needs_sandbox
def test_nothing_of_ours_is_seen_inside(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WALLET_PASSWORD", "canary")
    seen = run(write(returning("[dict(os.environ), sorted(os.listdir('/')), os.getuid()]")), None, limits=SMALL)
    environment, root, uid = cast(tuple[dict[str, str], list[str], int], seen)
    assert set(environment) == {"LANG", "PWD", "PYTHONHASHSEED"}
    assert not {"proc", "sys", "home", "boot", "var"} & set(root)
    assert uid == 65534
    open_files = run(write(returning("[fd for fd in range(64) if is_open(fd)]")), None, limits=SMALL)
    assert open_files == [0, 1, 2, 3, 4]  # the standard ones, its answer, /dev/null: nothing of bwrap's or of ours


@needs_sandbox
def test_the_virtual_environments_packages_are_not_there(write: Write) -> None:
    with pytest.raises(ProgramStopped, match="No module named 'pydantic'"):
        run(write("import pydantic"), None, limits=SMALL)


HANGING = """
import signal
signal.signal(signal.SIGXCPU, lambda *_: None)
signal.signal(signal.SIGTERM, lambda *_: None)
def main(given):
    while True:
        try:
            10 ** (10 ** 8)
        except BaseException:
            pass
"""


@needs_sandbox
@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("def main(given):\n    while True: pass", "program_slow"),
        (HANGING, "program_slow"),
        ("import re\ndef main(given): return bool(re.match('(a+)+$', 'a' * 60 + 'b'))", "program_slow"),
        ("def main(given): return len(bytearray(10 ** 9))", "program_memory"),
        ("def main(given):\n    kept = []\n    while True: kept.append(kept * 2)", "program_memory"),
        ("def main(given): return 'x' * 200_000", "program_output"),
        ("import os\ndef main(given):\n    while True: os.write(2, b'x' * 65536)", "program_crashed"),
        ("def main(given): return main(given)", "program_crashed"),
        ("def main(given): return float('nan')", "program_crashed"),
        ("def main(given): return object()", "program_crashed"),
        ("import os\ndef main(given): os._exit(0)", "program_crashed"),
        ("import sys\ndef main(given): sys.exit(0)", "program_crashed"),
        ("import os\ndef main(given): os.kill(os.getpid(), 11)", "program_crashed"),
        ("import ctypes\ndef main(given): ctypes.string_at(0)", "program_crashed"),
        ("import os\ndef main(given):\n    os.write(3, b'[' * 90_000)\n    os._exit(0)", "program_crashed"),
        ("def main(", "program_crashed"),
        ("", "program_crashed"),
    ],
)
def test_a_program_that_wants_too_much_or_breaks_is_its_authors_fault(write: Write, source: str, code: str) -> None:
    started = time.monotonic()
    with pytest.raises(ProgramStopped) as stopped:
        run(write(source), None, limits=SMALL)
    assert (stopped.value.code, stopped.value.blame) == (code, Blame.CUSTOMER)
    assert time.monotonic() - started < SMALL.wall_seconds


@needs_sandbox
def test_a_program_that_sleeps_is_woken_for_good(write: Write) -> None:
    limits = ProgramLimits(cpu_seconds=1, patience=0.3)
    with pytest.raises(ProgramStopped) as stopped:
        run(write("import time\ndef main(given): time.sleep(1000)"), None, limits=limits)
    assert stopped.value.code == "program_slow"


@needs_sandbox
def test_scratch_space_has_an_end(write: Write) -> None:
    source = """
def main(given):
    for number in range(1000):
        try:
            with open(f'/tmp/{number}', 'wb') as file:
                file.write(b'x' * 99_000)
        except OSError as error:
            return [number, str(error)]
"""
    files, problem = cast(tuple[int, str], run(write(source), None, limits=SMALL))
    assert files * 99_000 <= 16 * MEBIBYTE
    assert "No space left" in problem


@needs_sandbox
def test_what_a_program_prints_is_not_its_answer(write: Write) -> None:
    assert run(write("def main(given):\n    print('{}' * 10)\n    return given"), {"a": [1]}) == {"a": [1]}


@needs_sandbox
def test_a_program_dies_with_the_process_that_started_it(write: Write) -> None:
    program = write("import time\ndef main(given): time.sleep(1000)")
    starting = (
        f"from pathlib import Path; from gradients.sandbox.bubblewrap import run; run(Path({str(program)!r}), None)"
    )
    parent = subprocess.Popen([sys.executable, "-c", starting])
    _wait_until(lambda: _runs_inside(parent.pid, str(program)))  # by then bwrap has asked the kernel for it
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _wait_until(lambda: not _processes_with(str(program)))


def test_without_bubblewrap_nothing_is_run(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    mark = tmp_path / "ran"
    with pytest.raises(SetupError, match="apt-get install bubblewrap") as refused:
        run(write(f"open({str(mark)!r}, 'w')"), None)
    assert (refused.value.code, refused.value.blame) == ("sandbox_missing", Blame.OPERATOR)
    assert not mark.exists()


def test_where_bubblewrap_may_not_work_nothing_is_run(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bwrap = tmp_path / "bwrap"
    bwrap.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    bwrap.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="No permissions to create new namespace") as refused:
        run(write("def main(given): return 1"), None)
    assert (refused.value.code, refused.value.blame) == ("sandbox_refused", Blame.OPERATOR)


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_refuses_every_call_that_it_names_and_allows_the_rest(machine: str) -> None:
    program = filter_program(machine=machine)
    assert len(program) % 8 == 0
    assert program[-8:] == bytes.fromhex("06000000 0000ff7f")  # the last word: allow


def test_a_machine_whose_calls_are_unknown_has_no_sandbox() -> None:
    with pytest.raises(SetupError, match="riscv64"):
        filter_program(machine="riscv64")


def _processes_with(argument: str) -> list[int]:
    """Processes whose command line mentions it, dead ones left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if argument.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:  # it ended meanwhile
            continue
    return found


def _runs_inside(pid: int, program: str) -> bool:
    """Whether below this process, and below bwrap, whose command line names the program, there is one that does not name it."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            if program.encode() not in Path(f"/proc/{child}/cmdline").read_bytes() or _runs_inside(int(child), program):
                return True
    return False


def _wait_until(holds: Callable[[], bool], *, seconds: float = 120.0) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.05)
