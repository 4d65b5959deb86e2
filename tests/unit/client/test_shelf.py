"""Models on the shelf: there as a whole or not at all, and known by their card."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradients.client.shelf import CARD_FILE, Card, Shelf, ShelvedModel
from gradients.errors import SetupError
from tests.unit.client import answers

TASK = answers.task(answers.miner(), answers.miner(hotkey="5Second", rank=2))


def test_a_model_that_was_brought_is_found_with_what_is_needed_to_run_it(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "models")
    with shelf.adding(TASK, "5Winner") as folder:
        (folder / "adapter.safetensors").write_bytes(b"w")
    card = Card(task_id=TASK.id, type="instruct", base="nano-lm", hotkey="5Winner", best=True)
    assert shelf.find(TASK.id) == ShelvedModel(card, shelf.folder(TASK.id, "5Winner"))
    assert (shelf.folder(TASK.id, "5Winner") / "adapter.safetensors").read_bytes() == b"w"


def test_each_miners_model_has_a_place_of_its_own_and_the_best_is_the_winners_whatever_came_last(
    tmp_path: Path,
) -> None:
    shelf = Shelf(tmp_path)
    for hotkey in ("5Winner", "5Second"):
        with shelf.adding(TASK, hotkey):
            pass
    assert {file.name for file in tmp_path.iterdir()} == {f"{TASK.id}-5Winner", f"{TASK.id}-5Second"}
    assert shelf.get(TASK.id).card.hotkey == "5Winner"
    assert shelf.get(TASK.id, "5Second").card.best is False


def test_anothers_model_is_not_taken_for_the_best_one(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    with shelf.adding(TASK, "5Second"):
        pass
    assert shelf.find(TASK.id) is None
    with pytest.raises(SetupError, match="does not hold the best model"):
        shelf.get(TASK.id)


def test_a_failure_keeps_the_model_that_was_there_and_leaves_nothing_else(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    with shelf.adding(TASK, "5Winner") as folder:
        (folder / "first").write_bytes(b"w")
    with pytest.raises(FileNotFoundError), shelf.adding(TASK, "5Winner") as folder:
        (folder / "second").rename(folder / "third")
    assert [file.name for file in tmp_path.iterdir()] == [f"{TASK.id}-5Winner"]
    assert {file.name for file in shelf.folder(TASK.id, "5Winner").iterdir()} == {"first", CARD_FILE}


@pytest.mark.parametrize("card", [None, b"{", b"{}", b"[]"])
def test_a_folder_without_a_card_is_not_a_model(tmp_path: Path, card: bytes | None) -> None:
    (tmp_path / TASK.id).mkdir()
    if card is not None:
        (tmp_path / TASK.id / CARD_FILE).write_bytes(card)
    assert Shelf(tmp_path).find(TASK.id) is None
