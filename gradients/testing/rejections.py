"""What a rejection of something that a miner handed in must be like, whatever was wrong with it."""

from __future__ import annotations

from collections.abc import Callable

from gradients.errors import Blame, SubmissionRejected

MAX_MESSAGE_BYTES = 1000


def rejection_of(act: Callable[[], object]) -> SubmissionRejected:
    """The rejection that `act` ends in. Raises AssertionError unless there is a proper one."""
    try:
        act()
    except SubmissionRejected as error:
        check_rejection(error)
        return error
    raise AssertionError("It was taken")


def check_rejection(error: SubmissionRejected) -> None:
    """Raises AssertionError unless the miner is to blame and the message, which quotes the miner, can be stored and shown."""
    message = str(error)
    if error.blame is not Blame.MINER:
        raise AssertionError(f"{error.code} is blamed on {error.blame}")
    if not message.isprintable() or len(message.encode()) > MAX_MESSAGE_BYTES:  # half a letter would not even encode
        raise AssertionError(f"The message cannot be shown: {message[:100]!a}")
