"""What customers see of a task while it waits."""

from __future__ import annotations

from gradients.axon.messages import AttemptStatus
from gradients.domain.task import TaskId, Window
from tests.unit.validator.market import assigned, found, opened
from validator.board import Board
from validator.ledger import Ledger

OTHER = TaskId("instruct-ba9876543210")


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


def test_a_deadline_that_was_brought_forward_tells_no_pace_of_the_chain(ledger: Ledger) -> None:
    """Else the time of the first deadline would be shown beside the block of the second."""
    assigned(ledger, ["alice"])
    as_told = Board(ledger, Silence()).task(found(ledger)).blocks
    assigned(ledger, ["alice"], task_id=OTHER, window=Window(10, 12, 12))
    given_up = Board(ledger, Silence()).task(found(ledger, OTHER)).blocks
    assert as_told is not None
    assert None not in (as_told.started_at, as_told.deadline_at, as_told.reveal_until_at)
    assert given_up is not None
    assert (given_up.deadline, given_up.deadline_at, given_up.reveal_until_at) == (12, None, None)
    assert given_up.started_at is not None
