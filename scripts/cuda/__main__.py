"""`scripts/gpu`: what must hold on a box with a GPU, within some minutes and without a network. One JSON object, one Markdown table.

Exit code 0 when everything held that could run, 1 when something did not. Without CUDA it says so and ends with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CHECKS = (
    "device", "tests", "market", "lora", "measuring", "short_of_memory", "full", "resumed", "out_of_memory", "market_half_b",
)  # fmt: skip
SECONDS_OF_CHECK = 150.0  # the most that one of them may take
FEWEST_SECONDS = 30.0  # a check is not begun with less


class Outcome(NamedTuple):
    """How one check ended."""

    name: str
    outcome: str  # "held", "broken", "not run"
    seconds: float
    figures: dict[str, float | str]
    broken: list[str]


def main() -> int:
    """Run the checks, write the report, and say whether everything held."""
    parser = argparse.ArgumentParser(prog="scripts/gpu", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=ROOT / "runs" / "gpu", help="folder for gpu.json and gpu.md (runs/gpu)"
    )
    parser.add_argument(
        "--seconds", type=float, default=460.0, help="for everything; checks that would overrun are not begun (460)"
    )
    parser.add_argument("--only", default=",".join(CHECKS), help=f"checks, separated by commas: {', '.join(CHECKS)}")
    parser.add_argument("--rehearse", action="store_true", help="the same on a CPU with tiny shapes")
    parser.add_argument("--json", action="store_true", help="print gpu.json instead of the table")
    parser.add_argument("--check", choices=CHECKS, help=argparse.SUPPRESS)  # one of them, in this process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.check:
        from scripts.cuda import checks, ground

        found = checks.CHECKS[asked.check](ground.REHEARSAL if asked.rehearse else ground.FULL, asked.folder)
        print(json.dumps({"figures": found.figures, "broken": found.broken}))
        return 0
    names = asked.only.split(",")
    if unknown := [name for name in names if name not in CHECKS]:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(CHECKS)}")
    box = _box()
    if not asked.rehearse and not box["cuda device"]:
        print(json.dumps({"skipped": "no CUDA device"}) if asked.json else "Skipped: torch sees no CUDA device here.")
        return 0
    outcomes = _run(names, seconds=asked.seconds, rehearse=asked.rehearse)
    command = " ".join(["scripts/gpu", *sys.argv[1:]])
    report = {
        "box": box,
        "command": command,
        "checks": [each._asdict() for each in outcomes],
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n")
    (asked.out / "gpu.md").write_text(_markdown(box, command, outcomes))
    print(json.dumps(report) if asked.json else (asked.out / "gpu.md").read_text())
    return int(any(each.outcome == "broken" for each in outcomes))


def _run(names: list[str], *, seconds: float, rehearse: bool) -> list[Outcome]:
    """Each check in a process group of its own, until the time is over."""
    ends, outcomes = time.monotonic() + seconds, list[Outcome]()
    with tempfile.TemporaryDirectory(prefix="gradients-gpu-") as folder:
        for name in names:
            left = ends - time.monotonic()
            if not rehearse:  # which may be as slow as its machine is
                left = min(SECONDS_OF_CHECK, left)
            if left < FEWEST_SECONDS:
                outcomes.append(Outcome(name, "not run", 0.0, {}, ["no time was left"]))
                continue
            print(f"{name} ...", file=sys.stderr, flush=True)
            outcomes.append(_checked(name, Path(folder) / name, seconds=left, rehearse=rehearse))
            print(
                f"{name}: {outcomes[-1].outcome}, {outcomes[-1].seconds:.0f} s {outcomes[-1].broken}",
                file=sys.stderr,
                flush=True,
            )
    return outcomes


def _checked(name: str, folder: Path, *, seconds: float, rehearse: bool) -> Outcome:
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "scripts.cuda",
        "--check",
        name,
        "--folder",
        str(folder),
        *(["--rehearse"] if rehearse else []),
    ]
    started = time.monotonic()
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        said, problem = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, problem = process.communicate()
        return Outcome(name, "broken", seconds, {}, [f"not done after {seconds:.0f} s: {problem[-800:]}"])
    took = round(time.monotonic() - started, 1)
    if process.returncode:
        return Outcome(name, "broken", took, {}, [f"crashed: {problem[-1500:]}"])
    found = json.loads(said.splitlines()[-1])
    return Outcome(name, "broken" if found["broken"] else "held", took, found["figures"], found["broken"])


def _box() -> dict[str, str]:
    """The card and the versions that figures belong to."""
    asked = (
        "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '');"
        "print(torch.__version__, torch.version.cuda)"
    )
    device, versions = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "cuda device": device,
        "torch and CUDA": versions,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("transformers", "peft", "safetensors")},
        "commit": commit.stdout.strip() or "unknown",
    }


def _markdown(box: dict[str, str], command: str, outcomes: list[Outcome]) -> str:
    lines = [
        "# On a GPU",
        "",
        f"`{command}`",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in box.items()),
        "",
    ]
    lines += ["| check | outcome | seconds | figures |", "|---|---|---|---|"]
    for each in outcomes:
        figures = "; ".join(
            f"{name} {value:,}" if isinstance(value, (int, float)) else f"{name} {value}"
            for name, value in each.figures.items()
        )
        told = " ".join([figures, *(problem.replace("|", "/").replace("\n", " ")[:300] for problem in each.broken)])
        lines.append(f"| {each.name} | {each.outcome} | {each.seconds:.0f} | {told.strip()} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
