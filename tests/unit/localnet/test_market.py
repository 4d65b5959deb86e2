"""A market that pays nobody ends with the reason, and not after waiting for a pay that cannot come."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradients.client.models import TaskDetails, examples
from gradients.domain.task import TaskState
from gradients.errors import JobFailed
from gradients.localnet.market import check_won

WON = TaskDetails.model_validate(examples()["TaskDetails"])
LOST = WON.model_copy(
    update={"miners": tuple(m.model_copy(update={"rank": None, "reason": "too late"}) for m in WON.miners)}
)


def test_a_market_with_a_winner_goes_on_to_its_pay(tmp_path: Path) -> None:
    assert WON.best is not None
    check_won([WON, LOST], tmp_path)


def test_without_any_winner_the_reasons_are_told(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="Nobody has won a task, so nobody is paid: too late") as caught:
        check_won([LOST], tmp_path)
    assert "--hours" in str(caught.value.fix)


def test_a_failed_task_ends_the_market(tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="ended without scores"):
        check_won([WON, WON.model_copy(update={"state": TaskState.FAILED})], tmp_path)
