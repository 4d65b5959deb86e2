"""Architectures that the README says can be fine-tuned are: trained, screened and measured with random weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradients.tasks.preparation import PreparedData
from scripts.architectures import BEGIN, END, README, every_name, prepared_rows, try_apart

KINDS = ("llama", "gpt2", "bloom")  # attention by rotation, layers that stand across, attention by distance
MORE = ("gemma2", "mistral", "opt", "phi3", "qwen3", "qwen3_moe", "gpt_neox", "falcon", "olmo2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    return prepared_rows(tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("name", KINDS)
def test_an_architecture_goes_through_training_screening_and_measuring(name: str, data: PreparedData) -> None:
    assert try_apart(name, data).problem == ""


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_more_architectures_go_through_training_screening_and_measuring(name: str, data: PreparedData) -> None:
    assert try_apart(name, data).problem == ""


def test_the_readme_says_of_every_architecture_whether_it_is_taken() -> None:
    """Written by scripts/architectures; another version of transformers names others."""
    table = Path(README).read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    taken = table.partition("full model: ")[2].partition(".\n")[0].split(", ")
    refused = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert sorted([*taken, *refused]) == every_name()
    assert {*KINDS, *MORE} <= {*taken}
