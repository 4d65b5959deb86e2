"""A worker that strangers' bytes have taken over gets nothing of its validator: as root, and as a normal user."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import gradients
from gradients.domain.json import JsonObject
from gradients.errors import GradientsError, JobFailed
from gradients.execution.job import Job, JobLimits
from gradients.execution.process import ProcessExecutor
from gradients.sandbox.enclosure import Enclosure
from gradients.testing.sandboxes import reason_to_skip
from tests.security.hostile_jobs import GOT
from tests.security.isolation_run import SECRET

NO_SANDBOX = reason_to_skip()
needs_sandbox = pytest.mark.skipif(bool(NO_SANDBOX), reason=NO_SANDBOX or "there is one")
ROOT = Path(gradients.__file__).parents[1]
NOBODY = 65534
OWN = {"own folder", "threads and processes"}  # what it may


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody reaches; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="gradients-isolation-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def as_nobody(command: list[str], place: Path) -> list[str]:
    """The command as user 65534, whom the folders of Python and its packages are shown, wherever they lie."""
    needed = {Path(sys.prefix), Path(sys.base_prefix), ROOT, *(Path(p) for p in sys.path if p.endswith("-packages"))}
    closed = {
        max((folder for folder in path.parents if not folder.stat().st_mode & 1), key=lambda f: -len(f.parts))
        for path in needed
        if any(not folder.stat().st_mode & 1 for folder in path.parents)
    }
    lines = []
    for number, path in enumerate(needed):
        lines.append(f"mkdir -p {place}/held/{number}; mount --bind {path} {place}/held/{number}")
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {folder}" for folder in closed]
    for number, path in enumerate(needed):
        if any(folder in path.parents for folder in closed):
            lines.append(f"mkdir -p {path}; mount --bind {place}/held/{number} {path}")
    lines.append(f"exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups -- " + " ".join(command))
    return ["unshare", "--mount", "sh", "-ec", "\n".join(lines)]


def what_it_got(place: Path, how: str, *, user: str) -> dict[str, str]:
    command = [sys.executable, "-m", "tests.security.isolation_run", str(place / user), how]
    (place / user).mkdir()
    (place / user).chmod(0o777)
    run = subprocess.run(
        as_nobody(command, place) if user == "nobody" else command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CANARY": SECRET},
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    got: dict[str, str] = json.loads(run.stdout)
    return got


@needs_sandbox
@pytest.mark.parametrize("how", ["sandboxed", "kept"])
@pytest.mark.parametrize(
    "user", ["ourselves", pytest.param("nobody", marks=pytest.mark.skipif(os.getuid() != 0, reason="not root"))]
)
def test_it_gets_nothing_but_its_own_folder(place: Path, user: str, how: str) -> None:
    got = what_it_got(place, how, user=user)
    left = {name for name, came in got.items() if came == GOT and not name.startswith("write")}
    assert left == OWN, got
    assert len(got) == 18
    outside = [file for file in (place / user).rglob("left") if file.parent.name != "job"]
    assert outside == []  # whatever it wrote where there was a folder of that name, it wrote nowhere
    assert (place / user / "validator" / "tasks" / "mine" / "results" / "mine").is_file()


def test_without_a_sandbox_it_gets_everything_that_this_user_has(place: Path) -> None:
    got = what_it_got(place, "open", user="ourselves")
    kinds = {name.split()[0] for name, came in got.items() if came == GOT}
    assert {"read", "write", "connect", "environment", "processes", "memory", "signal", "ptrace"} <= kinds, got


def run_job(folder: Path, function: str, arguments: JsonObject, **limits: int) -> JsonObject:
    job = Job(
        f"tests.security.hostile_jobs:{function}",
        arguments,
        folder,
        deadline_seconds=600,
        limits=JobLimits(**limits),
    )
    return asyncio.run(ProcessExecutor(sandboxed=not NO_SANDBOX).run(job, report=lambda _: None))


@pytest.mark.parametrize("status", [0, 3])
def test_links_that_it_leaves_are_not_followed(tmp_path: Path, status: int) -> None:
    secret = tmp_path / "hotkey"
    secret.write_text(json.dumps({"kind": "DatasetInvalid", "message": SECRET, "code": "x", "fix": None}))
    before = secret.read_bytes()
    for _ in range(2):  # the second time it finds what the first one left
        with pytest.raises(JobFailed) as failed:
            run_job(tmp_path / "job", "leave_traps", {"secret": str(secret), "status": status})
        assert SECRET not in str(failed.value)
    assert secret.read_bytes() == before


@pytest.mark.parametrize(
    ("what", "limits", "code"),
    [
        ("memory", {"memory_bytes": 1024**3}, "out_of_memory"),
        ("processor", {"cpu_seconds": 2}, "job_slow"),
        ("files", {"open_files": 32}, "job_crashed"),
    ],
)
def test_a_limit_ends_it_and_is_named(tmp_path: Path, what: str, limits: dict[str, int], code: str) -> None:
    with pytest.raises(GradientsError) as failed:
        run_job(tmp_path / "job", "take", {"what": what}, **limits)
    assert failed.value.code == code


def test_an_accelerator_is_shown_to_those_who_ask_for_it(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "null", "sda"):
        (tmp_path / name).touch()
    with_it, without = (Enclosure(accelerator=asked).arguments(dev=tmp_path) for asked in (True, False))
    shown = [with_it[i + 1] for i, argument in enumerate(with_it) if argument == "--dev-bind"]
    assert shown == [str(tmp_path / name) for name in ("nvidia-uvm", "nvidia0", "nvidiactl")]
    assert "/sys/devices" in with_it
    assert not {"--dev-bind", "/sys/devices"} & set(without)
