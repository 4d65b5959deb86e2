"""Options that several suites share."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

# No test depends on how fast a machine is, nor on luck: examples are the same ones in every run. "thorough" looks for others.
ANY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("any machine", ANY_MACHINE, derandomize=True)
settings.load_profile("any machine")
settings.register_profile("thorough", ANY_MACHINE, derandomize=False, max_examples=1000)  # --hypothesis-profile


# Files that take longest go first, so that no process is left alone with one in the end; no more than two markets train at a time.
LONGEST = (
    "e2e/test_gpu_script.py",
    "fault/test_weights.py",
    "e2e/test_localnet.py",
    "e2e/test_evaluation_stress.py",
    "fault/test_kills.py",
    "fault/test_cluster.py",
    "e2e/test_delivery.py",
    "cluster/test_ray_executor.py",
    "e2e/test_example_miner.py",
    "e2e/test_browser.py",
    "e2e/test_btcli.py",
    "datasets/test_hub.py",
)


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A command that a test runs in this process says how logs are written, for good."""
    before = structlog.get_config()
    yield
    if structlog.get_config() != before:
        structlog.configure(**before)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """For the slow or the fault suite alone, files without such a test are not even imported: each process would import everything."""
    marks = set(re.findall(r"\w+", str(config.option.markexpr))) - {"or"}
    if collection_path.suffix != ".py" or not marks or not marks <= {"slow", "fault", "gpu"}:
        return None
    text = collection_path.read_text(encoding="utf-8")
    return None if any(f"mark.{mark}" in text for mark in marks) else True


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What all files import stays until the end; looking for what could be freed would take a third of the time of reading them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In the order of LONGEST, and then as collected; xdist keeps to it without its own reordering."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get("/".join(item.path.parts[-2:]), len(places)))


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
    parser.addoption("--pictures", help="a folder for pictures of the pages, taken on the way; scripts/screenshots")
