"""`scripts/gpu --carry`: the wheels that a box without a network lacks, as files in .wheels/, for Python 3.12 on x86-64."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
TARGET = ROOT / ".wheels"
WANTED = ("gradients-subnet[train,gpu,localnet]", "pytest")
BROUGHT_BY_THE_BOX = ("torch", "triton", "gradients-subnet")  # and what only they need
GLIBC = (17, 24, 27, 28, 31, 34, 35)


def main() -> None:
    """Fill the folder anew."""
    parser = argparse.ArgumentParser(prog="scripts/gpu --carry", description=__doc__)
    parser.add_argument("--has", type=Path, help="file with names of packages that the box has, one a line")
    parser.add_argument(
        "--without", default="", help="more packages to leave out, separated by commas, such as pyarrow"
    )
    parser.add_argument("--python", default="3.12", help="of the box (3.12)")
    asked = parser.parse_args()
    has = {_plain(line) for line in asked.has.read_text().split()} if asked.has else set()
    left_out = has | {_plain(name) for name in asked.without.split(",") if name}
    needed = sorted(f"{name}=={metadata.version(name)}" for name in _closure() - left_out)
    shutil.rmtree(TARGET, ignore_errors=True)
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in GLIBC] + [
        "--platform=manylinux2014_x86_64",
        "--platform=any",
    ]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--implementation=cp",
    ]
    subprocess.run([*pip, f"--python-version={asked.python}", *platforms, "--dest", str(TARGET), *needed], check=True)
    size = sum(file.stat().st_size for file in TARGET.iterdir())
    print(f"{len(needed)} wheels, {size / 2**20:.1f} MiB, in {TARGET.name}/")


def _closure() -> set[str]:
    """Everything that the packages in WANTED need, by the metadata of what is installed here."""
    found, todo = set[str](), [Requirement(name) for name in WANTED]
    seen = set[tuple[str, str]]()
    while todo:
        requirement = todo.pop()
        name = _plain(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen or name in BROUGHT_BY_THE_BOX[:2]:
                continue
            seen.add((name, extra))
            needs = map(Requirement, metadata.requires(name) or ())
            todo += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]
        found.add(name)
    return found - set(BROUGHT_BY_THE_BOX)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
