"""A Ray cluster of two nodes, parts of which are killed while tasks are measured: each is scored once, with the same numbers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gradients.cluster.executor import RayExecutor
from gradients.domain.json import JsonObject
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import TaskState
from gradients.execution.job import WAITING, Job, ReportProgress
from gradients.testing.clock import HandClock
from gradients.testing.cpu_devices import cpu_devices
from gradients.testing.fake_chain import FakeChain
from gradients.testing.ray_cluster import HEAD, RayCluster
from gradients.testing.sandboxes import reason_to_skip
from tests.e2e.broken_entrants import FUNCTION
from tests.e2e.test_evaluation_stress import MINERS, Field
from tests.unit.validator.market import WINDOW, claimed, found
from validator.measuring.devices import devices_of_nodes
from validator.settings import MeasureSettings
from validator.stages.measure import MeasureStage
from validator.stages.score import ScoreStage

pytestmark = pytest.mark.fault

NODE = "127.0.0.3"
CORES = 4  # of both nodes
SETTINGS = MeasureSettings(deadline_seconds=1200.0)  # nothing hangs here: only a machine that stalls could take long
TASKS = [f"{number:012x}" for number in range(2)]


@dataclass
class Watched:
    """Jobs on the cluster, slow enough to be shot at; says when entrants are begun."""

    inner: RayExecutor
    begun: list[str] = field(default_factory=list)  # entrants
    at_work: int = 0  # jobs that have begun and not ended
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        """See Executor."""
        of_this_job = set[str]()

        def hear(told: JsonObject) -> None:
            report(told)
            if told is WAITING:  # it begins, or begins again
                self.at_work -= bool(of_this_job)
                of_this_job.clear()
            if isinstance(entrant := told.get("entrant"), str) and entrant not in of_this_job:
                self.at_work += not of_this_job
                of_this_job.add(entrant)
                self.begun.append(entrant)
                self.heard.set()

        try:
            return await self.inner.run(replace(job, function=FUNCTION, packages=("tests",)), report=hear)
        finally:
            self.at_work -= bool(of_this_job)


class ClusterField(Field):
    """The field of the stress tests, measured on a cluster and scored."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, faults=dict.fromkeys(MINERS, "slow"), devices=cpu_devices(1), tasks=TASKS)

    def score(self, cluster: RayCluster, shoot: Callable[[], None], *, cores: int) -> list[str]:
        """Measure and score all tasks; `shoot` once so many cores of the cluster are at work. Who was begun, as often as that was."""

        async def main() -> list[str]:
            chain = FakeChain()
            await chain.advance(WINDOW.reveal_until_block)
            gateway = chain.gateway("validator")
            ray = RayExecutor(
                cluster.address,
                environment=cluster.environment,
                host="127.0.0.1",
                port=0,
                origin=None,
                sandboxed=not reason_to_skip(),
                patience_seconds=600.0,
            )
            watched = Watched(ray)
            devices = devices_of_nodes(SETTINGS, ray, self.folder / "nodes")
            measure = MeasureStage(
                self.ledger, gateway, self.bases, self.store, watched, devices, self.folders, SETTINGS
            )
            async with ray.serving():
                shooting = asyncio.create_task(_shoot(watched, shoot, cores))
                claims = [claimed(self.ledger, TaskState.COLLECTED, owner=task) for task in self.tasks]
                await asyncio.gather(*(measure.run(claim) for claim in claims))
                watched.is_over = True
                watched.heard.set()
                await shooting
            score = ScoreStage(self.ledger, gateway, HandClock())
            for task in self.tasks:
                await score.run(claimed(self.ledger, TaskState.MEASURED, owner=task))
            return watched.begun

        return asyncio.run(main())


async def _shoot(watched: Watched, shoot: Callable[[], None], cores: int) -> None:
    while watched.at_work < cores:
        assert not watched.is_over, f"all was measured before {cores} cores were at work at once"
        watched.heard.clear()
        await watched.heard.wait()
    await asyncio.to_thread(shoot)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sequence[float]]:
    """The numbers by this machine alone."""
    field = Field(tmp_path_factory.mktemp("here"), faults={}, devices=cpu_devices(1))
    field.measure()
    return field.rows()


@pytest.fixture
def cluster() -> Iterator[RayCluster]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, RayCluster(Path(folder)).running() as running:
        running.start(NODE)
        yield running


def a_node(cluster: RayCluster) -> None:
    """Kill the second node; the first goes on alone."""
    cluster.kill(NODE)


def the_head(cluster: RayCluster) -> None:
    """Kill the head, with which the cluster is gone, and start both anew."""
    cluster.kill(HEAD)
    cluster.kill(NODE)
    cluster.start(HEAD)
    cluster.start(NODE)


def the_driver(_: RayCluster) -> None:
    """Kill the process by which this one speaks to the cluster."""
    drivers = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "gradients.cluster.driver"],
        capture_output=True,
        text=True,
        check=True,
    )
    for pid in drivers.stdout.split():
        os.kill(int(pid), signal.SIGKILL)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each of the parts, or the first few."""
    if "killed" in metafunc.fixturenames:
        parts = [the_head, a_node, the_driver]
        metafunc.parametrize("killed", parts[: int(metafunc.config.getoption("--shots"))])


def test_each_task_is_scored_once_whoever_is_killed(
    tmp_path: Path,
    expected: dict[str, Sequence[float]],
    cluster: RayCluster,
    killed: Callable[[RayCluster], None],
) -> None:
    field = ClusterField(tmp_path)
    # whichever node is at work dies with the head and the driver; of one node it must be known
    begun = field.score(cluster, lambda: killed(cluster), cores=CORES if killed is a_node else 1)
    for number, task in enumerate(field.tasks):
        assert found(field.ledger, task).state is TaskState.SCORED
        assert field.rows(number) == expected
    entrants = len(TASKS) * len([BASE_ENTRANT, *MINERS])
    assert len(begun) > entrants, "nothing was measured again: nothing was killed"
    field.ledger.engine.dispose()
