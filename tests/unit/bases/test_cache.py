"""What lies in the cache of bases, and taking it out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gradients.bases.bases import BaseModels
from gradients.bases.cache import drop, held


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for name, size in (("org--one@main", 1000), ("org--two@v1", 3000), (".org--half@main.part", 10)):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "model.safetensors").write_bytes(bytes(size))
    (tmp_path / ".org--one@main.lock").touch()
    return tmp_path


def test_bases_are_named_as_tasks_name_them_the_largest_first(cache: Path) -> None:
    found = [(each.name, each.bytes, each.is_whole) for each in held(cache)]
    assert found == [("org/two@v1", 3000, True), ("org/one@main", 1000, True), ("org/half@main", 10, False)]
    assert held(cache / "nowhere") == []


def test_what_is_taken_out_is_not_found_any_more_and_open_files_stay_readable(cache: Path) -> None:
    bases = BaseModels.default(cache)
    assert bases.is_here("org/two@v1")
    with (cache / "org--two@v1" / "inner" / "model.safetensors").open("rb") as at_work:
        drop(held(cache)[0])
        assert not bases.is_here("org/two@v1")
        assert len(at_work.read()) == 3000
    assert [each.name for each in held(cache)] == ["org/one@main", "org/half@main"]


def test_the_command_lists_and_clears(cache: Path) -> None:
    def gradients(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gradients.cli", "cache", *arguments, "--caches", str(cache)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    unknown = gradients("clear", "org/three@main")
    assert (unknown.returncode, "org/three@main is not in" in unknown.stderr) == (1, True)
    assert json.loads(gradients("clear", "org/two@v1", "--json").stdout) == {"freed_bytes": 3000}
    listed = json.loads(gradients("list", "--json").stdout)
    assert [each["name"] for each in listed["bases"]] == ["org/one@main", "org/half@main"]
    assert gradients("clear").returncode == 2
