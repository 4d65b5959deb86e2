"""One task from its start to its commitment: what a kill after each step leaves, and what is tried again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from gradients.axon.auth import MetagraphPolicy, Nonces
from gradients.axon.client import AxonClient
from gradients.axon.serve import serving
from gradients.axon.server import file_response, signed_app
from gradients.bases.bases import BaseModels
from gradients.chain.view import ChainView
from gradients.chain.wallet import open_wallet
from gradients.domain.commitment import payload
from gradients.domain.json import JsonObject
from gradients.domain.task import Hotkey
from gradients.errors import ChainOutcomeUnknown, ChainRefused, ChainUnreachable, DiskFull, JobFailed
from gradients.execution.job import Job, JobLimits, ReportProgress
from gradients.execution.process import ProcessExecutor
from gradients.repo.manifest import parse_manifest
from gradients.tasks.jobs.models import CHECK_REPO
from gradients.tasks.jobs.training import TrainJob
from miner.attempt import Attempts
from miner.experience import Found
from miner.journal import Journal, Record, openings
from miner.memory import GIB, Memory
from miner.plan import Recipe
from miner.settings import MinerSettings, TrackingSettings
from miner.tracking.tracking import Tracking
from miner.trainings import Trainings
from tests.unit.miner.fakes import (
    OTHER_TASK,
    ROWS,
    TASK,
    FakeChain,
    FakeClock,
    FakeTrainer,
    Killed,
    neuron,
    start,
    write_base,
)

MINER, VALIDATOR = (open_wallet(name, f"{name}//hot") for name in ("//Miner", "//Validator"))
RECIPE = Recipe.model_validate(
    {
        "name": "tiny-lora",
        "plan": {"method": "lora", "candidates": 10},
        "learning_rate": [{"up_to_parameters": "inf", "value": 1e-3}],
    }
)

FULL = RECIPE.model_copy(update={"name": "tiny-full", "plan": {"method": "full", "lora_rank": 1, "candidates": 10}})
NO_LOW_BITS = Memory(16 * GIB, low_bits=False)


@dataclass
class Machine:
    """A miner's machine: what survives a kill is the folder and the chain; `boot` starts the process anew."""

    folder: Path
    chain: FakeChain
    trainer: FakeTrainer = field(default_factory=FakeTrainer)
    clock: FakeClock = field(default_factory=FakeClock)
    tracking: Tracking = field(default_factory=Tracking)
    recipe: Recipe = RECIPE
    memory: Memory = field(default_factory=lambda: Memory(16 * GIB))
    served: bytes = ROWS
    byte_seconds: float = 0.0  # that the validator takes for each byte

    def journal(self) -> Journal:
        return Journal(self.folder / "tasks")

    def accept(self, task_id: str = TASK, **changes: object) -> None:
        digest = BaseModels(self.folder / "bases", self.folder / "cache").resolve("tiny").digest
        message = start(task_id, base_digest=digest, **changes)
        validator = VALIDATOR.hotkey.ss58_address
        self.journal().write(Record(start=message, validator=validator, accepted_at=self.clock.now(), salt="5a" * 32))

    def record(self, task_id: str = TASK) -> Record:
        found = self.journal().find(task_id)
        assert found is not None
        return found

    def boot(self, *tasks: str) -> None:
        """Start the miner and let it bring `tasks` to their end, side by side."""
        asyncio.run(self._boot(tasks or (TASK,)))

    async def _boot(self, tasks: tuple[str, ...]) -> None:
        async with self._validator() as view:
            client = AxonClient(MINER.hotkey, allow_private=True)
            attempts = Attempts(
                Trainings(
                    journal=self.journal(),
                    executor=self.trainer,
                    bases=BaseModels(self.folder / "bases", self.folder / "cache"),
                    recipe=self.recipe,
                    memory=self.memory,
                    settings=MinerSettings(keep_seconds=10.0),
                    clock=self.clock,
                    tell=lambda task_id, progress: None,
                    tracking=self.tracking,
                ),
                gateway=self.chain,
                view=view,
                client=client,
                committing=asyncio.Lock(),
            )
            try:
                for task in [asyncio.ensure_future(attempts.run(task_id)) for task_id in tasks]:
                    await task
            finally:
                await client.close()

    @contextlib.asynccontextmanager
    async def _validator(self) -> AsyncIterator[ChainView]:
        """A validator's axon that gives out the train rows, and the chain as the miner sees it."""
        file = self.folder / "rows.jsonl"
        file.write_bytes(self.served)
        view = ChainView(self.chain, self.clock)
        app = signed_app(keypair=VALIDATOR.hotkey, policy=MetagraphPolicy(view.metagraph), nonces=Nonces(started_ns=0))

        @app.get("/v1/data/{sha256}")
        async def data(sha256: str, request: Request) -> Response:
            if self.byte_seconds:
                return StreamingResponse(self._dripping())
            return file_response(file, request, sha256=sha256)

        async with serving(app, "127.0.0.3", 0) as address:
            hotkeys = {self.chain.hotkey: None, VALIDATOR.hotkey.ss58_address: address}
            self.chain.neurons = tuple(
                neuron(hotkey, axon, uid=uid) for uid, (hotkey, axon) in enumerate(hotkeys.items())
            )
            await view.start()
            following = asyncio.create_task(view.follow())
            yield view
            following.cancel()

    async def _dripping(self) -> AsyncIterator[bytes]:
        for byte in self.served:
            yield bytes([byte])
            await asyncio.sleep(self.byte_seconds)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    write_base(tmp_path / "bases" / "tiny")
    made = Machine(tmp_path, FakeChain(Hotkey(MINER.hotkey.ss58_address)))
    made.accept()
    return made


def leaves_of(machine: Machine, *tasks: str) -> tuple[str, ...]:
    records = [machine.record(task_id) for task_id in tasks]
    held = openings(records, netuid=machine.chain.netuid, hotkey=machine.chain.hotkey, block=0)
    return tuple(opening.leaf().hex() for opening in held.values())


def root(leaves: tuple[str, ...]) -> bytes:
    return payload([bytes.fromhex(leaf) for leaf in leaves])


def test_an_attempt_ends_in_a_committed_repo(machine: Machine) -> None:
    machine.boot()
    record = machine.record()
    assert (record.phase, record.committed_at_block, record.leaves) == ("committed", 10, leaves_of(machine, TASK))
    assert record.manifest is not None
    manifest = parse_manifest(record.manifest)
    assert (manifest.task_id, manifest.hotkey, manifest.kind) == (TASK, machine.chain.hotkey, "adapter")
    assert (manifest.training.recipe, manifest.training.steps) == ("tiny-lora", 14)
    assert machine.chain.commits[-1].payload == root(record.leaves)


def test_training_gets_the_rows_the_seed_and_the_time_that_is_left(machine: Machine) -> None:
    machine.boot()
    (job,) = machine.trainer.jobs
    assert job.train_file.read_bytes() == ROWS
    assert (job.seed, job.plan.recipe, job.plan.learning_rate) == (5, "tiny-lora", 1e-3)
    # from block 10 to block 110, three blocks for the commitment, 12 s each, 10 s kept
    assert job.deadline_unix == 1_000_000.0 + (110 - 3 - 10) * 12.0 - 10.0


def test_a_plan_begins_where_searches_that_ended_before_the_task_began_have_led(machine: Machine) -> None:
    learnt = Found(recipe="tiny-lora", method="lora", parameters=100, rate_factor=3.0, batch_rows=4, epochs=6.0)
    for number, committed_at in enumerate([7, 8, 9, 10]):  # the last only when this task had begun already
        task_id = f"instruct-{number:012}"
        machine.accept(task_id, started_at_block=1)
        factor = 3.0 if committed_at < 10 else 1e6
        found = learnt.model_copy(update={"rate_factor": factor})
        machine.journal().change(task_id, committed_at_block=committed_at, found=found)
    machine.boot()
    (job,) = machine.trainer.jobs
    assert job.plan.learning_rate == pytest.approx(3e-3)
    assert (job.plan.batch_rows, job.plan.max_epochs) == (4, 6.0)


def test_a_kill_before_training_goes_on_with_the_same_deadline(machine: Machine) -> None:
    machine.trainer.die_before = True
    with pytest.raises(Killed):
        machine.boot()
    until = machine.record().train_until
    machine.trainer.die_before = False
    machine.clock.seconds += 60.0
    machine.chain.height += 5
    machine.boot()
    assert machine.record().phase == "committed"
    assert [job.deadline_unix for job in machine.trainer.jobs] == [until, until]
    assert machine.trainer.jobs[0] == machine.trainer.jobs[1]  # so that its checkpoint counts


def test_a_kill_after_training_describes_what_lies_there(machine: Machine) -> None:
    machine.trainer.die_after = True
    with pytest.raises(Killed):
        machine.boot()
    assert machine.record().phase == "training"
    machine.trainer.die_after = False
    machine.boot()
    assert machine.record().phase == "committed"
    assert len(machine.chain.commits) == 1


def test_a_kill_after_describing_commits_without_training_again(machine: Machine) -> None:
    machine.chain.die_before_commit = True
    with pytest.raises(Killed):
        machine.boot()
    assert machine.record().phase == "trained"
    assert machine.chain.commits == []
    machine.chain.die_before_commit = False
    machine.boot()
    assert machine.record().phase == "committed"
    assert len(machine.trainer.jobs) == 1


def test_a_kill_after_the_commitment_was_sent_commits_once(machine: Machine) -> None:
    machine.chain.die_after_commit = True
    with pytest.raises(Killed):
        machine.boot()
    assert machine.record().phase == "trained"
    machine.chain.die_after_commit = False
    machine.chain.height = 40
    machine.boot()
    record = machine.record()
    assert (record.phase, record.committed_at_block) == ("committed", 10)
    assert [made.payload for made in machine.chain.commits] == [root(record.leaves)]


def test_a_commitment_that_was_sent_before_a_kill_counts_after_the_deadline_too(machine: Machine) -> None:
    machine.chain.die_after_commit = True
    with pytest.raises(Killed):
        machine.boot()
    machine.chain.die_after_commit = False
    machine.chain.height = 120
    machine.boot()
    record = machine.record()
    assert (record.phase, record.committed_at_block, record.leaves) == ("committed", 10, leaves_of(machine, TASK))
    assert len(machine.chain.commits) == 1


def test_a_chain_that_is_down_after_the_deadline_is_asked_again_about_what_was_sent(machine: Machine) -> None:
    machine.chain.die_after_commit = True
    with pytest.raises(Killed):
        machine.boot()
    machine.chain.die_after_commit = False
    machine.chain.height = 120
    machine.chain.errors = [ChainUnreachable("down"), ChainUnreachable("still down")]
    machine.boot()
    assert machine.record().phase == "committed"


def test_a_finished_attempt_that_is_begun_again_does_nothing(machine: Machine) -> None:
    machine.boot()
    machine.boot()
    assert (len(machine.trainer.jobs), len(machine.chain.commits)) == (1, 1)


def test_a_second_task_is_committed_under_one_root_with_the_first(machine: Machine) -> None:
    machine.boot()
    machine.accept(OTHER_TASK, deadline_block=150, reveal_until_block=200)
    machine.chain.height = 50
    machine.boot(OTHER_TASK)
    both = leaves_of(machine, TASK, OTHER_TASK)
    assert (machine.record(TASK).leaves, machine.record(OTHER_TASK).leaves) == (both, both)
    assert machine.chain.commits[-1].payload == root(both)
    assert machine.record(TASK).committed_at_block == 10


def test_a_root_that_came_after_a_tasks_deadline_does_not_replace_the_one_that_counts(machine: Machine) -> None:
    machine.boot()
    machine.accept(OTHER_TASK, deadline_block=150, reveal_until_block=200)
    machine.chain.height = 120  # after the first task's deadline, before the end of its reveal
    machine.boot(OTHER_TASK)
    assert machine.record(TASK).leaves == leaves_of(machine, TASK)
    assert root(machine.record(TASK).leaves) == machine.chain.commits[0].payload
    assert machine.record(OTHER_TASK).leaves == leaves_of(machine, TASK, OTHER_TASK)


def test_two_tasks_side_by_side_end_under_the_root_that_stands_on_chain(machine: Machine) -> None:
    machine.accept(OTHER_TASK)
    machine.boot(TASK, OTHER_TASK)
    standing = machine.chain.commits[-1].payload
    assert root(machine.record(TASK).leaves) == standing
    assert root(machine.record(OTHER_TASK).leaves) == standing


OUTSIDE = [
    ChainUnreachable("down"),
    ChainRefused("rate limit", code="rate_limit"),
    ChainOutcomeUnknown("sent, and then silence"),
]


@pytest.mark.parametrize("error", OUTSIDE, ids=lambda error: error.code)
def test_what_the_chain_stops_is_tried_again(machine: Machine, error: Exception) -> None:
    machine.chain.errors = [error, error]
    machine.chain.commit_errors = [error, error, error]
    machine.boot()
    assert machine.record().phase == "committed"
    assert (len(machine.trainer.jobs), len(machine.chain.commits)) == (1, 1)


def test_a_chain_that_takes_no_commitment_ends_the_task_at_its_deadline(machine: Machine) -> None:
    machine.chain.commit_errors = [ChainRefused("rate limit", code="rate_limit")] * 1000
    machine.clock.on_sleep = lambda: setattr(machine.chain, "height", machine.chain.height + 40)
    machine.boot()
    assert machine.record().failure == (
        "rate_limit: rate limit; then submission_late: The commitment did not make it before block 110"
    )
    assert machine.chain.commits == []


def test_a_commitment_in_a_block_after_the_deadline_is_late(machine: Machine) -> None:
    machine.boot()
    machine.accept(OTHER_TASK, deadline_block=20)
    machine.chain.late_blocks = 11  # seen at block 10, included in block 21
    machine.boot(OTHER_TASK)
    assert (
        machine.record(OTHER_TASK).failure
        == "submission_late: The commitment stands in block 21, and block 20 was the last"
    )
    assert root(machine.record(TASK).leaves) == machine.chain.commits[-1].payload  # in time for the first task


@pytest.mark.parametrize("again_at", [21, 50, 110])
def test_a_root_that_was_sent_too_late_before_a_kill_is_still_the_other_tasks(machine: Machine, again_at: int) -> None:
    machine.boot()
    machine.accept(OTHER_TASK, deadline_block=20)
    machine.chain.late_blocks = 11
    machine.chain.die_after_commit = True
    with pytest.raises(Killed):
        machine.boot(OTHER_TASK)
    machine.chain.die_after_commit, machine.chain.height = False, again_at
    machine.boot(OTHER_TASK)
    assert (machine.record(OTHER_TASK).failure or "").startswith("submission_late")
    assert root(machine.record(TASK).leaves) == machine.chain.commits[-1].payload


def test_a_root_that_was_sent_before_a_kill_never_replaces_a_newer_one(machine: Machine) -> None:
    """The second task's root stands in block 10 and holds the first; before it is looked for, the third task's replaces it in block 30."""
    machine.chain.die_before_commit = True
    with pytest.raises(Killed):
        machine.boot()
    machine.chain.die_before_commit, machine.chain.die_after_commit = False, True
    machine.accept(OTHER_TASK, deadline_block=20)
    with pytest.raises(Killed):
        machine.boot(OTHER_TASK)
    machine.chain.die_after_commit, machine.chain.height = False, 30
    third = "instruct-000000000003"
    machine.accept(third)
    for task_id in (third, OTHER_TASK):
        machine.boot(task_id)
    older, newer = (made.payload for made in machine.chain.commits)
    assert [root(machine.record(task_id).leaves) for task_id in (TASK, OTHER_TASK, third)] == [newer, older, newer]
    assert machine.record(OTHER_TASK).committed_at_block == 10


def test_a_start_that_is_found_too_late_is_not_trained(machine: Machine) -> None:
    machine.chain.height = 108
    machine.boot()
    assert machine.record().failure == "submission_late: No time is left before block 110"
    assert machine.trainer.jobs == []


def test_rows_that_drip_are_waited_for_until_the_time_is_over_and_no_longer(machine: Machine) -> None:
    """97 blocks less 10 s kept are 0.3 s; at a byte in 0.05 s the rows would take 8 s."""
    machine.chain.seconds, machine.byte_seconds = 10.3 / 97, 0.05
    machine.clock.on_sleep = lambda: setattr(machine.chain, "height", machine.chain.height + 40)
    machine.boot()
    assert machine.record().failure == "submission_late: The train rows were not here after 0 s, when the time was over"
    assert machine.trainer.jobs == []


def test_rows_that_are_not_the_announced_ones_are_never_trained_on(machine: Machine) -> None:
    machine.served = ROWS.replace(b"hello", b"HELLO")
    machine.clock.on_sleep = lambda: setattr(machine.chain, "height", machine.chain.height + 40)
    machine.boot()
    assert (machine.record().failure or "").startswith("peer_unreachable: The train rows arrived as")
    assert machine.trainer.jobs == []
    assert not (machine.folder / "tasks" / TASK / "train.jsonl").exists()


def test_a_base_that_has_changed_since_the_offer_is_not_trained(machine: Machine) -> None:
    (machine.folder / "bases" / "tiny" / "config.json").write_text('{"other": true}')
    machine.boot()
    assert machine.record().failure == "base_mismatch: The base tiny is another one here"
    assert machine.trainer.jobs == []


def test_a_failed_training_is_written_down_and_nothing_is_committed(machine: Machine) -> None:
    machine.trainer.error = JobFailed(
        "No step had finite gradients", code="diverged", fix="Use a smaller learning rate"
    )
    machine.boot()
    assert machine.record().failure == "diverged: No step had finite gradients. Use a smaller learning rate"
    assert len(machine.trainer.jobs) == 1
    assert machine.chain.commits == []


@pytest.mark.parametrize("code", ["job_killed", "job_crashed", "out_of_memory"])
def test_a_worker_that_dies_is_started_again_as_long_as_it_gets_further(machine: Machine, code: str) -> None:
    """Five deaths, each further on than the one before; the time until which it trains stays, what is left of it shrinks."""
    machine.trainer.deaths = [(done, JobFailed("it died", code=code)) for done in (0.1, 0.2, 0.3, 0.4, 0.5)]
    machine.boot()
    assert machine.record().phase == "committed"
    assert len(machine.trainer.jobs) == 6
    assert len({job.deadline_unix for job in machine.trainer.jobs}) == 1
    assert machine.trainer.seconds == sorted(machine.trainer.seconds, reverse=True)
    assert machine.clock.slept == [2.0] * 5


def test_a_worker_that_dies_where_it_died_before_is_given_up_with_the_first_reason(machine: Machine) -> None:
    reasons = ["the driver was reset", "it was reset again", "and again"]
    machine.trainer.deaths = [
        (0.3, JobFailed(reason, code="job_crashed", fix="Look at the driver")) for reason in reasons
    ]
    machine.boot()
    assert machine.record().failure == (
        "job_crashed: the driver was reset (started 3 times, 30% done). Look at the driver"
    )
    assert machine.clock.slept == [2.0, 4.0]
    assert [job.plan for job in machine.trainer.jobs] == [machine.trainer.jobs[0].plan] * 3


def ways(machine: Machine) -> list[tuple[str, bool, bool]]:
    """Method, layers computed again and 4 bits of each worker's plan."""
    plans = [job.plan for job in machine.trainer.jobs]
    return [(plan.method, plan.gradient_checkpointing, plan.load_in_4bit) for plan in plans]


LADDER = [("full", False, False), ("full", True, False), ("lora", True, False)]  # a LoRA alone takes no less here


def test_memory_that_runs_out_leads_to_a_plan_that_takes_less(machine: Machine) -> None:
    machine.recipe, machine.memory = FULL, NO_LOW_BITS
    machine.trainer.deaths = [(0.0, JobFailed(f"no memory {n}", code="out_of_memory")) for n in (1, 2)]
    machine.boot()
    assert machine.record().phase == "committed"
    assert ways(machine) == LADDER
    assert machine.trainer.jobs[2].plan.learning_rate == pytest.approx(1e-2)  # a LoRA's, ten times as high
    assert len({job.deadline_unix for job in machine.trainer.jobs}) == 1
    assert machine.clock.slept == []


def test_where_nothing_takes_less_the_task_ends_with_the_first_reason(machine: Machine) -> None:
    machine.recipe, machine.memory = FULL, NO_LOW_BITS
    machine.trainer.deaths = [(0.0, JobFailed(f"no memory {n}", code="out_of_memory")) for n in range(9)]
    machine.boot()
    assert machine.record().failure == "out_of_memory: no memory 0"
    assert ways(machine) == [*LADDER, LADDER[-1], LADDER[-1]]  # the last one has three tries, as after other deaths


def test_a_plan_that_came_further_before_memory_ran_out_is_tried_again(machine: Machine) -> None:
    machine.recipe, machine.memory = FULL, NO_LOW_BITS
    machine.trainer.deaths = [(done, JobFailed("no memory", code="out_of_memory")) for done in (0.3, 0.3)]
    machine.boot()
    assert machine.record().phase == "committed"
    assert ways(machine) == [LADDER[0], LADDER[0], LADDER[1]]


def test_a_restart_goes_on_with_the_plan_that_was_found(machine: Machine) -> None:
    machine.recipe, machine.memory = FULL, NO_LOW_BITS
    machine.trainer.deaths = [(0.0, JobFailed("no memory", code="out_of_memory"))] * 2
    machine.trainer.die_after = True
    with pytest.raises(Killed):
        machine.boot()
    machine.trainer.die_after = False
    machine.boot()
    assert machine.record().phase == "committed"
    assert ways(machine) == [*LADDER[:3], LADDER[2]]
    assert machine.trainer.jobs[-1] == machine.trainer.jobs[-2]


def test_workers_that_the_kernel_kills_get_smaller_micro_batches_and_then_another_way(machine: Machine) -> None:
    """A SIGKILL may be anybody's: only three in a row that come no further are taken for a want of memory."""
    machine.trainer.deaths = [(0.1, JobFailed("killed", code="job_killed"))] * 6
    machine.boot()
    assert machine.record().phase == "committed"
    jobs = machine.trainer.jobs
    rows = max(map(len, ROWS.splitlines(keepends=True))) + 128  # no row has more tokens than that
    assert [job.plan.micro_batch_tokens for job in jobs] == [2_048] * 3 + [rows] * 4
    assert [job.plan.gradient_checkpointing for job in jobs] == [False] * 6 + [True]


def test_no_plan_is_tried_when_no_time_is_left(machine: Machine) -> None:
    class Slow(FakeTrainer):
        async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
            machine.clock.seconds += job.deadline_seconds
            return await super().run(job, report=report)

    machine.trainer = Slow(deaths=[(0.0, JobFailed("no memory", code="out_of_memory"))])
    machine.boot()
    assert machine.record().failure == "out_of_memory: no memory"
    assert len(machine.trainer.jobs) == 1


def test_a_worker_that_really_runs_out_of_memory_is_followed_by_one_with_a_smaller_plan(machine: Machine) -> None:
    """Processes that may have 1 GiB of address space, and ask for four unless layers are computed again."""

    class Elsewhere(FakeTrainer):
        async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
            if job.function == CHECK_REPO:
                return await super().run(job, report=report)
            self.jobs.append(TrainJob.model_validate(job.arguments))
            function = "gradients.testing.worker_functions:train_if_there_is_room"
            limits = JobLimits(memory_bytes=1 * GIB)
            return await ProcessExecutor().run(replace(job, function=function, limits=limits), report=report)

    machine.trainer = Elsewhere()
    machine.boot()
    assert machine.record().phase == "committed"
    assert ways(machine) == [("lora", False, False), ("lora", True, False)]


def test_a_death_with_no_time_left_ends_the_task_with_its_reason(machine: Machine) -> None:
    class Slow(FakeTrainer):
        async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
            machine.clock.seconds += job.deadline_seconds
            return await super().run(job, report=report)

    machine.trainer = Slow(deaths=[(0.9, JobFailed("the driver was reset", code="job_crashed"))])
    machine.boot()
    assert machine.record().failure == "job_crashed: the driver was reset"


@pytest.mark.parametrize("code", ["job_deadline", "job_slow", "job_crashed", "out_of_memory"])
def test_a_worker_that_comes_to_no_end_has_not_run_for_nothing(machine: Machine, code: str) -> None:
    """What it had handed in on its way is committed, as it was; restarts stand between a crash and that."""
    machine.trainer.deaths = [(0.9, JobFailed("it came to no end", code=code))] * 10
    machine.trainer.hands_in, machine.memory = True, NO_LOW_BITS
    machine.boot()
    record = machine.record()
    assert (record.phase, record.failure, record.found, record.speed) == ("committed", None, None, None)
    assert parse_manifest(record.manifest or "").training.steps == 6


def test_a_worker_has_half_of_the_time_that_is_kept_to_end_in(machine: Machine) -> None:
    machine.boot()
    assert machine.trainer.seconds == [machine.trainer.jobs[0].deadline_unix - machine.clock.now() + 5.0]


def test_what_a_later_start_ends_with_does_not_hide_why_the_first_worker_died(machine: Machine) -> None:
    late = JobFailed("Only 0.3 s are left", code="budget_too_short")
    machine.trainer.deaths = [(0.9, JobFailed("killed by the kernel", code="job_killed")), (0.9, late)]
    machine.boot()
    assert machine.record().failure == "job_killed: killed by the kernel"


def test_a_worker_that_is_really_killed_goes_on_from_its_checkpoint(machine: Machine) -> None:
    """kill -9 in the sixth of ten steps of a process of its own; five steps are done by the second."""

    class Elsewhere(FakeTrainer):
        async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
            if job.function == CHECK_REPO:
                return await super().run(job, report=report)
            self.jobs.append(TrainJob.model_validate(job.arguments))
            function = "gradients.testing.worker_functions:train_and_die_once"
            return await ProcessExecutor().run(replace(job, function=function), report=report)

    machine.trainer = Elsewhere()
    machine.boot()
    manifest = parse_manifest(machine.record().manifest or "")
    assert machine.record().phase == "committed"
    assert (len(machine.trainer.jobs), manifest.training.steps) == (2, 5)


def test_a_full_disk_that_lasts_to_the_end_is_the_reason_and_not_that_the_time_is_over(machine: Machine) -> None:
    machine.trainer.error = DiskFull("There is no room for the checkpoint", fix="Free some space")

    def go_on() -> None:
        machine.chain.height += 40
        machine.trainer.error = JobFailed("Only -1.1 s are left", code="budget_too_short")

    machine.clock.on_sleep = go_on
    machine.boot()
    assert machine.record().failure == (
        "disk_full: There is no room for the checkpoint. Free some space; then budget_too_short: Only -1.1 s are left"
    )


def test_an_error_that_nobody_expected_ends_its_own_task_only(machine: Machine) -> None:
    machine.trainer.error = ZeroDivisionError("division by zero")
    machine.boot()
    assert machine.record().failure == "internal: ZeroDivisionError: division by zero"


def test_a_full_disk_is_waited_for(machine: Machine) -> None:
    machine.trainer.error = DiskFull("no room", fix="Free some space")
    machine.clock.on_sleep = lambda: setattr(machine.trainer, "error", None)
    machine.boot()
    assert machine.record().phase == "committed"
    assert len(machine.trainer.jobs) == 2


def test_what_is_trained_becomes_curves_where_the_settings_say_so(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miner.tracking.tracking.STOPPING_SECONDS", 120.0)
    machine.tracking = Tracking(TrackingSettings(kind="tensorboard"), tmp_path / "curves")
    machine.accept()
    machine.boot()
    assert machine.record().phase == "committed"
    [events] = (tmp_path / "curves" / "gradients" / TASK).iterdir()
    assert b"train/loss" in events.read_bytes()
