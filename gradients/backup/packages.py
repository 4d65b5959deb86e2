"""The packages that this process runs from: which version there is, which there could be, another one, and back.

Covers: an environment of its own (python -m venv) with pip in it, and this package from an index of the operator's. Does not cover:
containers, whose packages are their image's; checkouts, whose version is git's; wheels from elsewhere; a distribution's environments. These
are refused by name, with what to do instead, and no index is asked: none has to know this package, and another's may stand under its name.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

from gradients.errors import OperatorError, OutsideError, SetupError
from gradients.extras import DISTRIBUTION, how_to_install, origin_of, sources_of

CONTAINERS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_LOOK_SECONDS, _INSTALL_SECONDS = 60.0, 1800.0


def installed() -> str:
    """The version that is installed. Raises SetupError where the package is not."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise SetupError(f"{DISTRIBUTION} is not installed here", fix="Run it from where it is") from error


def in_container() -> bool:
    """Whether what is installed here may go with the container."""
    return any(mark.exists() for mark in CONTAINERS)


def why_not() -> SetupError | None:
    """What keeps this command from changing the version here, and what does it instead; None where it can."""
    writable = os.access(Path(__file__).parents[2], os.W_OK)
    if in_container() and not writable:
        return SetupError(
            "This is a container: its packages are the image's",
            code="in_container",
            fix="`gradients backup` here; then build or pull the newer image and `docker compose up -d`, which migrates at its start",
        )
    if sources := sources_of():
        return SetupError(
            f"This was installed from the checkout in {sources[0]}: its version is git's",
            code="in_checkout",
            fix=f"Stop the daemon, `gradients backup`, git pull there, {how_to_install(*_extras())}, start it",
        )
    if origin := origin_of():  # pip's index may have another's package of this name
        return SetupError(
            f"This was installed from {origin.get('url')}, not from an index",
            code="not_from_index",
            fix="Stop the daemon, `gradients backup`, pip install the newer version from where it comes, start it",
        )
    if sys.prefix == sys.base_prefix:
        return SetupError(
            f"{sys.prefix} is not an environment of its own", code="no_venv", fix="Install into one: python3 -m venv"
        )
    if not writable:
        return SetupError(f"{sys.prefix} cannot be written by this user", code="not_owner", fix="Run this as its owner")
    return None


def available() -> list[str]:
    """The versions that pip's index carries, newest first. Raises OutsideError when it does not answer."""
    run = _pip("index", "versions", DISTRIBUTION, seconds=_LOOK_SECONDS)
    listed = re.search(r"^Available versions: (.+)$", run.stdout, flags=re.MULTILINE)
    if run.returncode or listed is None:
        raise OutsideError(
            f"pip's index has no {DISTRIBUTION}: {_last(run.stderr)}",
            code="index",
            fix="Check the network and pip's index (pip config list)",
        )
    return [version.strip() for version in listed[1].split(",")]


def frozen() -> str:
    """Every package by its exact version, as a file of requirements. Raises OperatorError."""
    run = _pip("freeze", "--local", seconds=_LOOK_SECONDS)
    if run.returncode:
        raise OperatorError(f"pip does not say what is installed: {_last(run.stderr)}", code="pip")
    return "\n".join(line for line in run.stdout.splitlines() if re.match(r"[\w.-]+==", line)) + "\n"


def install(version: str) -> None:
    """Put this version in the place of the one that is here, with what it needs. Raises OperatorError."""
    extras = ",".join(_extras())
    what = f"{DISTRIBUTION}[{extras}]=={version}" if extras else f"{DISTRIBUTION}=={version}"
    _checked(_pip("install", what, seconds=_INSTALL_SECONDS), f"Installing {DISTRIBUTION} {version}")


def put_back(requirements: Path) -> None:
    """Every package as it was when `frozen` was asked. Raises OperatorError."""
    _checked(_pip("install", "--no-deps", "--requirement", str(requirements), seconds=_INSTALL_SECONDS), "Going back")


def _extras() -> list[str]:
    """The extras that were installed: those of whose packages, and of what these always need, none is missing."""
    there = {_plain(each.name): each for each in importlib.metadata.distributions() if each.name}
    needed: dict[str, set[str]] = {}
    for line in importlib.metadata.requires(DISTRIBUTION) or ():
        if extra := re.search(r"extra == ['\"]([\w-]+)['\"]", line):
            needed.setdefault(extra[1], set()).add(_plain(line))

    def is_whole(name: str) -> bool:
        return name in there and all(_plain(line) in there for line in there[name].requires or () if ";" not in line)

    return sorted(extra for extra, names in needed.items() if all(map(is_whole, names)))


def _plain(requirement: str) -> str:
    """The name at the beginning of a requirement, as pip compares it."""
    found = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def _pip(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)  # noqa: S603 (our own)
    except subprocess.TimeoutExpired as error:
        raise OutsideError(f"pip {arguments[0]} took longer than {seconds:.0f} s", code="index") from error


def _checked(run: subprocess.CompletedProcess[str], doing: str) -> None:
    if run.returncode:
        raise OperatorError(
            f"{doing} failed: {_last(run.stderr)}", code="pip", fix="Read what pip says: python -m pip install …"
        )


def _last(text: str) -> str:
    """The lines that say what was wrong."""
    errors = [line for line in text.splitlines() if line.startswith("ERROR")]
    return " ".join((errors or text.splitlines() or ["no word"])[-2:])
