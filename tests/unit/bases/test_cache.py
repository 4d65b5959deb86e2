"""What lies in the cache of bases, and taking it out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gradients.bases.bases import BaseModels
from gradients.bases.cache import LEASE_SECONDS, drop, held, keep_within
from gradients.errors import ModelUnknown
from gradients.files.locks import in_turn


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
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    unknown = gradients("clear", "org/three@main")
    assert (unknown.returncode, "org/three@main is not in" in unknown.stderr) == (1, True)
    assert json.loads(gradients("clear", "org/two@v1", "--json").stdout) == {"freed_bytes": 3000}
    listed = json.loads(gradients("list", "--json").stdout)
    assert [each["name"] for each in listed["bases"]] == ["org/one@main", "org/half@main"]
    assert gradients("clear").returncode == 2


def long_ago(cache: Path, *, seconds: float = 2 * LEASE_SECONDS) -> None:
    """Have everything in the cache be written and used then; what comes later in the alphabet is younger."""
    for number, path in enumerate(sorted(cache.rglob("*"), reverse=True)):
        then = time.time() - seconds - 60 * number
        os.utime(path, (then, then))


def names(cache: Path) -> list[str]:
    return [each.name for each in held(cache)]


def test_above_its_limit_the_cache_loses_what_was_not_used_for_longest(cache: Path) -> None:
    long_ago(cache)
    os.utime(cache / "org--one@main", (time.time() - 1.5 * LEASE_SECONDS,) * 2)  # after the larger one
    assert keep_within(cache, 4010) == []
    assert [each.name for each in keep_within(cache, 4009)] == ["org/half@main"]  # what a fetch has left is the oldest
    assert [each.name for each in keep_within(cache, 3999)] == ["org/two@v1"]
    assert names(cache) == ["org/one@main"]


def test_what_is_in_use_stays_whatever_the_limit(cache: Path) -> None:
    long_ago(cache)
    models = BaseModels.default(cache)
    with pytest.raises(ModelUnknown):  # there are no weights in it, which is seen later
        models.resolve("org/one@main")
    models.keep_within(1, needed=["org/two@v1", "org/three@main", "nano-lm"])
    assert names(cache) == ["org/two@v1", "org/one@main"]
    assert keep_within(cache, 1, now=time.time() + 0.9 * LEASE_SECONDS) == []
    assert len(keep_within(cache, 1, now=time.time() + 1.1 * LEASE_SECONDS)) == 2
    assert [path.name for path in cache.iterdir() if not path.name.endswith(".lock")] == []


def test_what_somebody_is_at_stays_also_while_it_looks_unused(cache: Path) -> None:
    long_ago(cache)
    with in_turn(cache / ".org--two@v1.lock"):  # as another process holds it that fetches or notes a use
        keep_within(cache, 1)
    assert names(cache) == ["org/two@v1"]


def test_a_download_that_goes_on_is_not_a_rest_of_one(cache: Path) -> None:
    long_ago(cache)
    (cache / ".org--half@main.part" / "inner" / "model.safetensors").write_bytes(bytes(20))
    keep_within(cache, 1)
    assert names(cache) == ["org/half@main"]
    assert keep_within(cache / "nowhere", 1) == []
