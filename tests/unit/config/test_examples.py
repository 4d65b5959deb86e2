"""Every TOML under configs is one that its reader takes, and the examples say what there is to set."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

from gradients.cli.settings_example import example
from gradients.config import DaemonSettings, shipped_configs
from miner.plan import read_recipe
from miner.settings import MinerSettings
from validator.settings import ValidatorSettings

FOLDER = shipped_configs()
EXAMPLES: dict[str, type[DaemonSettings]] = {"miner": MinerSettings, "validator": ValidatorSettings}


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("*.toml")), ids=lambda file: str(file.relative_to(FOLDER)))
def test_every_file_is_read_by_whom_it_is_for(file: Path) -> None:
    if file.parent.name == "recipes":
        assert read_recipe(file).name == file.stem
    else:
        settings = EXAMPLES[file.stem]
        assert settings.load(file, {}).model_dump() == settings.load(None, {}).model_dump()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_what_the_settings_say_of_themselves(name: str) -> None:
    shipped = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    target = f"{EXAMPLES[name].__module__}:{EXAMPLES[name].__name__}"
    assert shipped == example(EXAMPLES[name], command=name), f"run python -m gradients.cli.settings_example {target}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_with_every_comment_taken_away_holds_the_defaults(name: str) -> None:
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    values = tomllib.loads(re.sub(r"^# (\w+ = .+)$", r"\1", text, flags=re.MULTILINE))
    unset = set(re.findall(r"^# (\w+) =$", text, flags=re.MULTILINE))
    defaults = EXAMPLES[name]().model_dump(mode="json")
    if "recipe" in values:  # the example's is relative to where configs/ lies
        values["recipe"] = str(FOLDER.parent / values["recipe"])
    for section, field in ((values, "folder"), (values["wallet"], "path")):
        section[field] = str(Path(section[field]).expanduser())
    assert _without_none(defaults) == values
    assert unset == {key for key, value in _leaves(defaults) if value is None}


@pytest.mark.parametrize("settings", EXAMPLES.values(), ids=EXAMPLES)
def test_every_setting_says_what_it_is(settings: type[BaseSettings]) -> None:
    text = example(settings, command="x")
    described = re.findall(r"^# (?P<about>[^=\n]+)\n# (?P<name>\w+) =", text, flags=re.MULTILINE)
    assert [name for _, name in described] == re.findall(r"^# (\w+) =", text, flags=re.MULTILINE)


def _without_none(values: dict[str, object]) -> dict[str, object]:
    kept = {key: _without_none(value) if isinstance(value, dict) else value for key, value in values.items()}
    return {key: value for key, value in kept.items() if value is not None}


def _leaves(values: dict[str, object]) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for key, value in values.items():
        found += _leaves(value) if isinstance(value, dict) else [(key, value)]
    return found
