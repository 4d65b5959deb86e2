"""Memory, sandbox, and the GPUs: as the driver, the installed torch and a process with torch in it see them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator

from gradients.config import device_environment, environment_without
from gradients.doctor.findings import Finding, Level, at_least
from gradients.execution.accelerator import torch_build, torch_may_use_gpu
from gradients.extras import how_to_install
from gradients.sandbox.trial import program_refusal, worker_refusal

GIB = 1024**3
LEAST_MEMORY_GIB = 8
_SMI_SECONDS, _TORCH_SECONDS = 30, 60
_CUDA = re.compile(r"CUDA (?:UMD )?Version\s*:\s*(\d+)\.(\d+)")
# Prints a line for each GPU that has multiplied two matrices; ends with the first one that cannot.
_TRIAL = """
import json, torch
cards = []
for number in range(torch.cuda.device_count()):
    ones = torch.ones(64, 64, device=f"cuda:{number}")
    assert float((ones @ ones).sum()) == 64.0**3
    free, total = torch.cuda.mem_get_info(number)
    cards.append([torch.cuda.get_device_name(number), free, total])
print(json.dumps({"build": torch.version.cuda or torch.version.hip, "cards": cards}))
"""


def memory(*, least_gib: int = LEAST_MEMORY_GIB) -> Iterator[Finding]:
    """The machine's."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    yield at_least(least_gib, total, name="memory", unit="GiB")


def sandbox(*, needed: Collection[str]) -> Iterator[Finding]:
    """Whether workers and strangers' programs can be confined.

    Args:
        needed: of "workers" and "programs", those without whose confinement work may not begin.
    """
    for what, refused in (("workers", worker_refusal()), ("programs", program_refusal())):
        if refused is None:
            yield Finding("sandbox", "ok", f"{what} run in it")
        else:
            level: Level = "missing" if what in needed else "note"
            yield Finding("sandbox", level, f"{what} cannot run in it: {refused.message}", refused.fix or "")


def gpu() -> Iterator[Finding]:
    """The GPUs, and what torch makes of them where it can use any."""
    yield (found := accelerator())
    if found.level == "ok":
        yield _agreement()
        yield torch_trial()


def accelerator() -> Finding:
    """The GPUs, and whether workers can use them."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        found = f"none; {os.cpu_count()} CPU cores"
        return Finding("gpu", "note", found, "fine for tiny models and for the control plane")
    said = _run([tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"], _SMI_SECONDS)
    if isinstance(said, str):
        return Finding("gpu", "missing", f"nvidia-smi: {said}", "repair the NVIDIA driver: reinstall it, then restart")
    cards = "; ".join(said.stdout.strip().splitlines())
    if not torch_may_use_gpu(device_environment().get("CUDA_VISIBLE_DEVICES")):
        found, advice = _why_unused()
        return Finding("gpu", "missing", f"{cards}, which workers cannot use: {found}", advice)
    return Finding("gpu", "ok", cards)


def _why_unused() -> tuple[str, str]:
    """Why torch cannot use a GPU that is there, and what to do."""
    build = torch_build()
    if build is None:
        return "torch is not installed", how_to_install("train", "gpu")
    if build == "cpu":
        index = "--index-url https://download.pytorch.org/whl/cu128"
        return (
            "torch is a build for the CPU",
            f"install torch's CUDA build: pip install --force-reinstall torch {index}",
        )
    return "CUDA_VISIBLE_DEVICES hides it", "unset CUDA_VISIBLE_DEVICES, or name a GPU in it"


def _agreement() -> Finding:
    """Whether the driver is new enough for what torch was built for; minor versions of CUDA get along."""
    build = torch_build() or ""
    said = _run([shutil.which("nvidia-smi") or "nvidia-smi"], _SMI_SECONDS)
    known = _CUDA.search(said.stdout) if not isinstance(said, str) else None
    if known is None:
        return Finding("driver", "note", f"the driver does not say which CUDA it knows; torch is built for {build}")
    newest, wanted = f"{known[1]}.{known[2]}", build.split(".")[0]
    if wanted.isdigit() and int(wanted) > int(known[1]):
        found = f"the driver knows CUDA up to {newest}, and torch is built for {build}"
        advice = f"update the NVIDIA driver to one for CUDA {build}, or install torch's build for CUDA {newest}"
        return Finding("driver", "missing", found, advice)
    return Finding("driver", "ok", f"knows CUDA up to {newest}; torch is built for {build}")


def torch_trial() -> Finding:
    """What a process with torch in it can do on each GPU, tried with a multiplication."""
    said = _run([sys.executable, "-c", _TRIAL], _TORCH_SECONDS)
    if isinstance(said, str):
        advice = "torch and the driver don't get along: update the driver, or install another build of torch"
        return Finding("torch", "missing", f"no GPU works: {said}", advice)
    seen = json.loads(said.stdout.splitlines()[-1])
    if not seen["cards"]:
        found = f"torch ({seen['build']}) sees no GPU where nvidia-smi names one"
        return Finding("torch", "missing", found, "give this user /dev/nvidia*, or start the container with --gpus all")
    cards = "; ".join(f"{name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free" for name, free, total in seen["cards"])
    return Finding("torch", "ok", f"calculates on {cards}")


def _run(command: list[str], seconds: int) -> subprocess.CompletedProcess[str] | str:
    """What a command said that went well; otherwise why it did not, in a line."""
    try:
        run = subprocess.run(  # noqa: S603 (fixed commands)
            command,
            env=environment_without("GRADIENTS_", "BT_", "AWS_"),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {seconds} s"
    except OSError as error:
        return str(error.strerror or error)
    lines = (run.stderr.strip() or run.stdout.strip()).splitlines()
    return run if run.returncode == 0 else (lines[-1] if lines else f"exit code {run.returncode}")[-300:]
