"""What customers see of a task while it waits."""

from __future__ import annotations

from gradients.axon.messages import AttemptStatus
from tests.unit.validator.market import assigned, found, opened
from validator.board import Board
from validator.ledger import Ledger


class Silence:
    """Miners that have said nothing."""

    def of(self, task_id: str, hotkey: str) -> AttemptStatus | None:
        return None


def test_a_task_that_cannot_be_offered_says_why(ledger: Ledger) -> None:
    opened(ledger)
    waiting = Board(ledger, Silence(), obstacle=lambda: "permit: none, with a stake of 1.0 alpha").summary(
        found(ledger)
    )
    assert "it cannot be offered to miners now (permit: none, with a stake of 1.0 alpha)" in waiting.note
    assert Board(ledger, Silence()).summary(found(ledger)).note == "The task is offered to miners"


def test_a_task_that_miners_train_waits_for_nothing(ledger: Ledger) -> None:
    assigned(ledger, ["alice"])
    note = Board(ledger, Silence(), obstacle=lambda: "permit: none").summary(found(ledger)).note
    assert note.startswith("Miners train")
