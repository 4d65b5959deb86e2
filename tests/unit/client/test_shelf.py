"""Models on the shelf: there as a whole or not at all, and known by their card."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradients.client.shelf import CARD_FILE, Shelf, ShelvedModel
from tests.unit.client import answers

TASK = answers.task(answers.miner())


def test_a_model_that_was_brought_is_found_with_what_is_needed_to_run_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "models")
    with shelf.adding(TASK) as folder:
        (folder / "adapter.safetensors").write_bytes(b"w")
    assert shelf.find(TASK.id) == ShelvedModel(TASK.id, type="instruct", base="nano-lm", folder=shelf.folder(TASK))
    assert (shelf.folder(TASK) / "adapter.safetensors").read_bytes() == b"w"


def test_a_failure_keeps_the_model_that_was_there_and_leaves_nothing_else(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    with shelf.adding(TASK) as folder:
        (folder / "first").write_bytes(b"w")
    with pytest.raises(FileNotFoundError), shelf.adding(TASK) as folder:
        (folder / "second").rename(folder / "third")
    assert [file.name for file in tmp_path.iterdir()] == [TASK.id]
    assert {file.name for file in shelf.folder(TASK).iterdir()} == {"first", CARD_FILE}


@pytest.mark.parametrize("card", [None, b"{", b"{}", b"[]"])
def test_a_folder_without_a_card_is_not_a_model(tmp_path: Path, card: bytes | None) -> None:
    (tmp_path / TASK.id).mkdir()
    if card is not None:
        (tmp_path / TASK.id / CARD_FILE).write_bytes(card)
    assert Shelf(tmp_path).find(TASK.id) is None
