"""The packages that this process runs from, by pip: what is installed, whether that may be changed here, what else there is, and back.

Covers: an environment of its own (python -m venv) with pip in it. Does not cover: containers, whose packages are their image's, and
environments of a distribution: these are refused by name, with what to do instead. Other packages that are editable are left alone.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gradients.errors import OperatorError, OutsideError, SetupError
from gradients.extras import DISTRIBUTION, origin_of

CONTAINERS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_LOOK_SECONDS, _INSTALL_SECONDS = 60.0, 1800.0
_LINE = re.compile(r"^(?P<name>[\w.-]+)(==| @ )")  # of `pip freeze`


class Origin(BaseModel):
    """Where pip got the package from, when that was not its index (PEP 610)."""

    url: str
    dir_info: Mapping[str, Any] | None = None  # a folder; Any: what pip writes there beside `editable`
    vcs_info: Mapping[str, Any] | None = None  # a repository

    @property
    def is_editable(self) -> bool:
        """Whether the code runs from the folder itself."""
        return bool(self.dir_info and self.dir_info.get("editable"))


def installed() -> str:
    """The version that is installed. Raises SetupError where the package is not."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as error:
        raise SetupError(f"{DISTRIBUTION} is not installed here", fix="Run it from where it is") from error


def origin() -> Origin | None:
    """Where the installed package is from; None for pip's index."""
    said = origin_of()
    return Origin.model_validate(said) if said else None


def in_container() -> bool:
    """Whether what is installed here may go with the container."""
    return any(mark.exists() for mark in CONTAINERS)


def site() -> Path:
    """The folder that this environment's packages lie in."""
    return Path(sysconfig.get_path("purelib"))


def why_not() -> SetupError | None:
    """What keeps this command from changing the version here, and what does it instead; None where it can."""
    writable = os.access(site(), os.W_OK)
    if in_container() and not writable:
        return SetupError(
            "This is a container: its packages are the image's",
            code="in_container",
            fix="`gradients backup` here; then build or pull the newer image and `docker compose up -d`, which migrates at its start",
        )
    if sys.prefix == sys.base_prefix:
        return SetupError(
            f"{sys.prefix} is not an environment of its own", code="no_venv", fix="Install into one: python3 -m venv"
        )
    if Path(str(importlib.metadata.distribution(DISTRIBUTION).locate_file(""))).resolve() != site().resolve():
        return SetupError(
            f"{DISTRIBUTION} does not lie in the environment that runs it, {sys.prefix}",
            code="no_venv",
            fix="Install it into one of its own: python3 -m venv",
        )
    if not writable:
        return SetupError(f"{sys.prefix} cannot be written by this user", code="not_owner", fix="Run this as its owner")
    return None


def available() -> list[str]:
    """The versions that pip's index carries, newest first. Raises OutsideError when it has none, or does not answer."""
    run = _pip("index", "versions", DISTRIBUTION, seconds=_LOOK_SECONDS)
    listed = re.search(r"^Available versions: (.+)$", run.stdout, flags=re.MULTILINE)
    if run.returncode or listed is None:
        raise OutsideError(
            f"pip's index has no {DISTRIBUTION}: {_last(run.stderr)}",
            code="index",
            fix="Name what to install, --from a folder, a wheel or a git+ URL; or check the network and pip's index (pip config list)",
        )
    return [version.strip() for version in listed[1].split(",")]


def frozen() -> str:
    """Every other package as pip would install it again, one a line. Raises OperatorError."""
    run = _pip("freeze", "--local", "--all", seconds=_LOOK_SECONDS)
    if run.returncode:
        raise OperatorError(f"pip does not say what is installed: {_last(run.stderr)}", code="pip")
    lines = [
        line
        for line in run.stdout.splitlines()
        if (found := _LINE.match(line)) and _plain(found["name"]) != DISTRIBUTION
    ]
    return "".join(f"{line}\n" for line in lines)


def install(asked: tuple[str, ...], constraints: Path | None) -> None:
    """Put another version of this package in the place of the one that is here, with what it needs. Raises OperatorError.

    Args:
        asked: what pip calls it: a requirement, a folder, a file or a URL, after --editable or not.
        constraints: a file of exact versions of other packages.
    """
    extras = _extras()
    _checked(
        _pip("install", "--no-deps", "--force-reinstall", *asked, seconds=_INSTALL_SECONDS), f"Installing {asked[-1]}"
    )
    within = ("--constraint", str(constraints)) if constraints else ()
    _checked(_pip("install", *within, *_needed(extras), seconds=_INSTALL_SECONDS), f"Installing what {asked[-1]} needs")


def put_back(others: str) -> None:
    """Every other package as it was when `frozen` said so. pip is asked for what has changed alone. Raises OperatorError."""
    was, now = others.splitlines(), frozen().splitlines()
    names = {_plain(line) for line in was}
    if added := [_plain(line) for line in now if _plain(line) not in names]:
        _checked(_pip("uninstall", "--yes", *added, seconds=_INSTALL_SECONDS), "Removing what came with it")
    if gone := [line for line in was if line not in now]:
        _checked(_pip("install", "--no-deps", *gone, seconds=_INSTALL_SECONDS), "Going back")


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


def _needed(extras: Collection[str]) -> list[str]:
    """What the version that is installed now asks for. By these names: under its own an index may have something of a stranger's."""
    lines = []
    for line in importlib.metadata.requires(DISTRIBUTION) or ():
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if extra is None or extra[1] in extras:
            lines.append(line.partition(";")[0].strip() if extra else line)
    return lines


def _plain(requirement: str) -> str:
    """The name at the beginning of a requirement, as pip compares it."""
    found = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", found[0]).lower() if found else ""


def _pip(*arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", *arguments]
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
