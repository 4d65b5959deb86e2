"""What is installed is pinned: by version for checkouts, by hash as well for images."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMAGES = ("train", "gpu", "image", "redis", "postgres", "s3")  # extras of both


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(file: Path) -> dict[str, str]:
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {plain(name): version for name, version in pins}


def wanted(*extras: str) -> set[str]:
    needs = [*PROJECT["dependencies"], *(each for extra in extras for each in PROJECT["optional-dependencies"][extra])]
    return {plain(re.split(r"[^\w.-]", need)[0]) for need in needs}


@pytest.mark.parametrize("extra", PROJECT["optional-dependencies"])
def test_every_extra_is_pinned(extra: str) -> None:
    assert wanted(extra) - set(versions(ROOT / "constraints.txt")) == set()


def test_images_get_the_versions_that_checkouts_get_and_what_builds_the_project() -> None:
    locked, pinned = versions(ROOT / "docker" / "packages.lock"), versions(ROOT / "constraints.txt")
    assert locked == {name: pinned[name] for name in locked}
    assert wanted(*IMAGES) | {"hatchling"} <= set(locked)


def test_every_locked_package_has_hashes() -> None:
    entries = re.split(r"\n(?=[a-z])", (ROOT / "docker" / "packages.lock").read_text(encoding="utf-8").strip())
    form = r"[\w.\[\]-]+==\S+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+"
    assert [entry[:60] for entry in entries if not re.fullmatch(form, entry)] == []
    assert len(entries) > 100
