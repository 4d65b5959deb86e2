"""Options that several suites share."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # no test depends on how fast a machine is
settings.load_profile("any machine")
settings.register_profile("thorough", max_examples=1000, deadline=None)  # pytest --hypothesis-profile thorough


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=20, help="SIGKILLs of the fault suite; CI takes fewer")
    parser.addoption("--shots", type=int, default=3, help="parts of a cluster that the fault suite kills; CI takes one")
    parser.addoption("--epochs", type=int, default=12, help="epochs of the fault suite's weights; 200 for the record")
    parser.addoption(
        "--records", type=int, default=16, help="tasks and changes of the audit in the slow suite; 200 for the record"
    )
    parser.addoption(
        "--market-types", default="instruct,diffusion", help="task types of the whole market in the slow suite; 'all'"
    )
