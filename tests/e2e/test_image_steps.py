"""Every step of the images' builds, run here: by the same script, without Docker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILDER = (
    "hatchling",
    "packaging",
    "pathspec",
    "pluggy",
    "tomlkit",
    "trove-classifiers",
)  # of the lock, what `project` needs


def step(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    run = subprocess.run(
        [ROOT / "docker" / "steps", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return run


@pytest.mark.slow
def test_an_environment_is_made_by_hash_and_the_project_goes_into_it(tmp_path: Path) -> None:
    lock = (ROOT / "docker" / "packages.lock").read_text()
    entries = re.split(r"\n(?=[a-z])", lock)
    few = [entry for entry in entries if entry.split("==")[0] in BUILDER]
    assert len(few) == len(BUILDER)
    (tmp_path / "few.lock").write_text("\n".join(few) + "\n")
    step("packages", tmp_path / "venv", tmp_path / "few.lock")
    source = tmp_path / "src"
    source.mkdir()
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE)
    for name in sent:
        (source / name).parent.mkdir(exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    step("project", tmp_path / "venv", ".", cwd=source)
    run = subprocess.run(
        [
            tmp_path / "venv" / "bin" / "python",
            "-c",
            "import gradients; print(gradients.__version__, gradients.__file__)",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    assert str(tmp_path / "venv") in run.stdout
    site = next((tmp_path / "venv").glob("lib/*/site-packages"))
    assert (site / "gradients" / "configs" / "validator.toml").is_file()
    assert (tmp_path / "venv" / "bin" / "gradients").is_file()


@pytest.mark.skipif(os.getuid() != 0, reason="adds a user below a folder, which only root may")
def test_the_user_has_its_number_a_home_and_no_shell(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "home").mkdir()
    for name in ("passwd", "group", "login.defs"):
        shutil.copy(Path("/etc") / name, tmp_path / "etc" / name)
    for name in ("shadow", "gshadow", "subuid", "subgid"):
        (tmp_path / "etc" / name).touch(mode=0o600)
    step("user", tmp_path)
    (line,) = re.findall(r"^gradients:.*$", (tmp_path / "etc" / "passwd").read_text(), flags=re.MULTILINE)
    assert line.split(":")[2] == "10001"
    assert line.endswith(":/home/gradients:/usr/sbin/nologin")


def test_debians_packages_are_asked_for_and_nothing_beside_them(tmp_path: Path) -> None:
    """apt-get's place is taken, for it changes the machine; scripts/services installs bubblewrap with the real one."""
    tool = tmp_path / "apt-get"
    tool.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n')
    (gone := tmp_path / "rm").write_text(f'#!/bin/sh\necho "rm $@" >>{tmp_path}/asked\n')
    for each in (tool, gone):
        each.chmod(0o755)
    subprocess.run(
        [ROOT / "docker" / "steps", "system", "bubblewrap", "postgresql-client"],
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=True,
        timeout=600,
    )
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:2] == ["update", "install --yes --no-install-recommends bubblewrap postgresql-client"]
    assert asked[2].startswith("rm -rf /var/lib/apt/lists/")


def test_a_step_that_there_is_not_is_said() -> None:
    run = subprocess.run(
        [ROOT / "docker" / "steps", "nothing"], capture_output=True, text=True, check=False, timeout=600
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert "usage: docker/steps packages VENV LOCK" in run.stderr
