"""What people are told to install exists, and is never asked of an index by a name that anybody could take."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

from gradients.cli.main import EXTRA_OF
from gradients.extras import how_to_install

ROOT = Path(__file__).parents[3]
METADATA = """Metadata-Version: 2.4
Name: of-a-test
Version: 1.0
Requires-Dist: numpy<3,>=2
Requires-Dist: boto3<2,>=1.40; extra == 's3'
Requires-Dist: redis<9,>=5.2; extra == "redis"
Requires-Dist: psycopg[binary]>=3.2; extra == 'postgres'
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a distribution's metadata, on the path."""
    about = tmp_path / "of_a_test-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return about


def test_without_sources_each_requirement_of_the_extras_is_named_with_its_versions(installed: Path) -> None:
    assert how_to_install("s3", package="of-a-test") == "pip install 'boto3<2,>=1.40'"
    both = how_to_install("redis", "postgres", package="of-a-test")
    assert both == "pip install 'redis<9,>=5.2' 'psycopg[binary]>=3.2'"
    (installed / "direct_url.json").write_text(json.dumps({"url": "file:///gone", "dir_info": {}}))
    assert how_to_install("s3", package="of-a-test") == "pip install 'boto3<2,>=1.40'"


@pytest.mark.parametrize(("editable", "flag"), [(True, " -e"), (False, "")])
def test_with_sources_the_command_installs_from_them(
    installed: Path, tmp_path: Path, editable: bool, flag: str
) -> None:
    sources = tmp_path / "the sources"
    sources.mkdir()
    (sources / "pyproject.toml").touch()
    (installed / "direct_url.json").write_text(
        json.dumps({"url": sources.as_uri(), "dir_info": {"editable": editable}})
    )
    assert how_to_install("train", "gpu", package="of-a-test") == f"pip install{flag} '{sources}[train,gpu]'"
    (sources / "constraints.txt").touch()
    pinned = f"pip install -c '{sources}/constraints.txt'{flag} '{sources}[s3]'"
    assert how_to_install("s3", package="of-a-test") == pinned


def test_a_checkout_is_installed_from_where_it_lies() -> None:
    assert how_to_install("s3") == f"pip install -c {ROOT}/constraints.txt -e '{ROOT}[s3]'"


def test_no_advice_asks_an_index_for_this_package() -> None:
    files = [
        *(file for top in ("gradients", "validator", "miner", "examples") for file in (ROOT / top).rglob("*.py")),
        *(
            file
            for top in (".", "docs", "configs", "docker", "gradients", "validator", "miner")
            for file in documents(top)
        ),
    ]
    asked = re.compile(r"gradients-subnet\[|pip3? install [^\n`]*gradients[-_]subnet")
    assert len(files) > 300
    assert [f"{file}: {found[0]}" for file in files if (found := asked.search(file.read_text(encoding="utf-8")))] == []


def documents(top: str) -> list[Path]:
    kinds = {".md", ".yaml", ".yml", ".toml", ".Dockerfile", ".service", ".json"}
    there = (ROOT / top).glob("*") if top == "." else (ROOT / top).rglob("*")
    return [file for file in there if file.suffix in kinds and file.name != "pyproject.toml"]


def test_every_extra_that_is_named_exists() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    code = [file for top in ("gradients", "validator", "miner") for file in (ROOT / top).rglob("*.py")]
    calls = [call for file in code for call in re.findall(r"how_to_install\(((?:\"\w+\"(?:, )?)+)\)", file.read_text())]
    named = {name for call in calls for name in re.findall(r"\w+", call)} | set(EXTRA_OF.values())
    texts = [file.read_text() for top in (".", "docs", "configs", "docker") for file in documents(top)]
    named |= {extra for text in texts for group in re.findall(r"'\.\[([\w,]+)\]", text) for extra in group.split(",")}
    assert {"s3", "gpu", "train"} <= named
    assert named <= extras
