"""Worker functions that do what jobs do when things go well and when they don't. They need no torch, so they start at once."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from gradients.domain.json import JsonObject
from gradients.errors import DatasetInvalid, ModelUnknown, SubmissionRejected
from gradients.execution.functions import resolve
from gradients.execution.job import ReportProgress


def echo(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """The arguments, and how many processes ran so far: each leaves a line in the file named `runs`, if there is one."""
    if isinstance(runs := arguments.get("runs"), str):
        with Path(runs).open("a") as file:
            file.write("ran\n")
    return {"arguments": arguments}


def count(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Reports {"step": 1} to {"step": n}."""
    steps = arguments["steps"]
    assert isinstance(steps, int)  # noqa: S101 (a test's own mistake)
    for step in range(1, steps + 1):
        report({"step": step})
    return {"steps": steps}


def show_environment(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """The environment and what is imported, as the worker sees them."""
    return {"environment": dict(os.environ), "modules": sorted(sys.modules), "cwd": str(Path.cwd())}


def refuse(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Ends with a miner's failure that has a code and a fix."""
    raise SubmissionRejected("a tensor holds NaN", code="tensor_not_finite", fix="Train with a smaller learning rate")


def find_bad_rows(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Ends with a customer's failure that names rows."""
    raise DatasetInvalid("2 rows have no completion", rows=(3, 7))


def crash(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Ends with an error that nobody named."""
    report({"step": 1})
    raise RuntimeError("the ceiling came down")


def use_up_memory(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Ends as a function does that asks for too much."""
    raise MemoryError("cannot allocate 80 GiB")


def fill_disk(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Ends as a write does when no room is left."""
    raise OSError(errno.ENOSPC, "No space left on device", "checkpoint.safetensors")


def die(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Ends as a process does that the kernel kills."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still here")


def abort(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Ends as a library does that finds itself broken."""
    os.abort()


def train_and_die_once(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """A trainer of ten steps with a checkpoint after each, that the kernel kills in its sixth step when there was none before."""
    checkpoint, output = (Path(str(arguments[name])) for name in ("checkpoint_folder", "output_folder"))
    checkpoint.mkdir(parents=True, exist_ok=True)
    steps, starts = checkpoint / "steps", checkpoint / "starts"
    done, started = (int(file.read_text()) if file.exists() else 0 for file in (steps, starts))
    starts.write_text(str(started + 1))
    for step in range(done + 1, 11):
        report({"phase": "training", "fraction": step / 10, "step": step, "loss": 1.0})
        if step == 6 and started == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps.write_text(str(step))
    return _hand_in(output, steps=10 - done)


def import_modules(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Imports what `modules` names, for the jobs that run in copies of this process."""
    modules = arguments["modules"]
    assert isinstance(modules, list)  # noqa: S101 (a test's own mistake)
    for module in modules:
        importlib.import_module(str(module))
    return {}


def train_until_killed(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Does the TrainJob `job` with the worker function `train`, and is killed at the first step behind one that left a checkpoint.

    Trainers leave one every two seconds at most; each step that they tell of lasts longer here, so this depends on no machine's speed.
    """
    job = arguments["job"]
    assert isinstance(job, dict)  # noqa: S101 (a test's own mistake)
    checkpoint, seen = Path(str(job["checkpoint_folder"])) / "checkpoint.safetensors", set[int]()

    def watch(progress: JsonObject) -> None:
        report(progress)
        if progress["phase"] != "training":
            return
        seen.add(checkpoint.stat().st_mtime_ns)  # the first one was left before any step
        if len(seen) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(2.1)

    return resolve(str(arguments["train"]))(job, watch)


def train_if_there_is_room(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """A trainer that asks for 4 GiB, or for little where its plan has layers computed again."""
    plan = arguments["plan"]
    assert isinstance(plan, dict)  # noqa: S101 (a test's own mistake)
    held = bytearray(2**20 if plan["gradient_checkpointing"] else 2**32)
    return _hand_in(Path(str(arguments["output_folder"])), steps=len(held) // 2**20)


def _hand_in(output: Path, *, steps: int) -> JsonObject:
    """Leave an adapter that nobody could load, and say what a trainer says."""
    output.mkdir()
    (output / "adapter_model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (output / "adapter_config.json").write_text("{}")
    losses: JsonObject = {"train_loss": 1.0, "validation_loss": 0.9, "base_validation_loss": 1.5, "beats_base": True}
    run = {"steps": steps, "rows_seen": 80, "learning_rate": 1e-3, "batch_rows": 8, "epochs": 1.0}
    return {"kind": "adapter", **run, "candidates": 1, "averaged": 1, "seconds": 1.0, **losses}


def sleep(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Tells its process id and sleeps for 300 seconds, asked to end or not when `stubborn`."""
    if arguments.get("stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    report({"pid": os.getpid()})
    time.sleep(300)
    return {}


def write_and_sleep(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Leaves a file in `writes`, tells its process id and sleeps for 300 seconds."""
    (Path(str(arguments["writes"])) / "written").write_text("before")
    return sleep({}, report)


def sleep_with_child(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Starts a process of its own, tells both ids and sleeps; with `leave`, ends at once and leaves the child behind."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    report({"pid": os.getpid(), "child": child.pid})
    if not arguments.get("leave"):
        time.sleep(300)
    return {}


def flood(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Writes 8 MiB to each of standard output and error, then a last line."""
    for _ in range(8 * 1024):
        sys.stdout.write("o" * 1023 + "\n")
        sys.stderr.write("e" * 1023 + "\n")
    print("last words", file=sys.stderr)  # noqa: T201
    raise RuntimeError("and now this")


def boast(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Reports a progress object of 10 MB between two small ones."""
    report({"step": 1})
    report({"step": 2, "sample": "x" * 10_000_000})
    report({"step": 3})
    return {}


def return_nan(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """A result that JSON has no word for."""
    return {"loss": float("nan")}


_held: list[JsonObject] = []


def hold(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Keeps its arguments in this process, for `show_held`."""
    if arguments.get("broken"):
        raise ModelUnknown("there is no such base", fix="Choose another base")
    _held.append(arguments)
    return {}


def show_held(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """What `hold` kept and what jobs before this one left there, this process and its parent."""
    before = list(_held)
    _held.append(arguments)
    return {"held": before, "pid": os.getpid(), "parent": os.getppid()}


def leave_a_spy(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Leaves a process behind, in a session of its own, and a file in every place that can be written to."""
    for folder in ("/tmp", ".", str(arguments["writes"]), "..", "../.."):  # noqa: S108
        with suppress(OSError):
            (Path(folder) / "planted").write_text("by a job")
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
        os._exit(0)
    return {}


def look_around(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """What a job sees of the jobs before it, and whether it can read its worker's memory, environment and descriptors."""
    planted = [
        str(place)
        for folder in ("/tmp", ".", str(arguments["writes"]), str(Path(str(arguments["writes"])).parent.parent))  # noqa: S108
        for place in Path(folder).rglob("planted")
    ]
    processes = sorted(int(place.name) for place in Path("/proc").iterdir() if place.name.isdecimal())
    worker, opened = Path(f"/proc/{os.getppid()}"), []
    for name in ("mem", "environ", "maps", "fd/0"):
        with suppress(OSError):
            (worker / name).open("rb", buffering=0).close()
            opened.append(name)
    return {"planted": planted, "processes": processes, "own": os.getpid(), "opened": opened}


def read_and_write(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Copies the text of each file of `reads` into `writes`, upper case."""
    for file in sorted(Path(str(arguments["reads"])).iterdir()):
        (Path(str(arguments["writes"])) / file.name).write_text(file.read_text().upper())
    return {"reads": arguments["reads"]}


def trick_the_next_one(arguments: JsonObject, report: ReportProgress) -> JsonObject:
    """Tells of an end that has not come, gives a job itself, and leaves links where its folders were; what of it worked."""
    own, worked = Path(str(arguments["writes"])), list[str]()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (numbers)
        if int(name) > 2:
            with suppress(OSError):
                os.write(int(name), b'{"job":"1","status":0}\n')
    pipe = next(place for place in own.parents if (place / "given").is_dir()) / "given" / "commands"
    with suppress(OSError):
        os.write(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), b"../taken/1\n")
        worked.append("command")
    with suppress(OSError):
        pipe.chmod(0o600)
        worked.append("chmod")
    for folder in (own, own.with_name("left")):
        folder.rename(folder.with_name(f"{folder.name}-moved"))
        folder.symlink_to(str(arguments["secret"]))
    report({"worked": list(worked)})
    return {}
