"""COLLECTED -> MEASURED, with an evaluator that does what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gradients.domain.evaluation import Fingerprint, Measurement
from gradients.domain.failure import Failure
from gradients.domain.json import JsonObject
from gradients.domain.seasons import season_of
from gradients.domain.seeds import seed
from gradients.domain.submission import BASE_ENTRANT, SubmissionState
from gradients.domain.task import TaskState
from gradients.errors import Blame, ChainUnreachable, JobFailed, LeaseLost
from gradients.execution.job import Job, ReportProgress
from gradients.execution.records import digest, finished_result, prepare_folder, write_result
from gradients.repo.store import ContentStore
from gradients.tasks.instruct.spec import INSTRUCT
from gradients.tasks.jobs.measuring import EntrantResult, MeasureJob
from gradients.testing.clock import HandClock
from gradients.testing.cpu_devices import cpu_devices
from gradients.testing.fake_chain import FakeChain
from tests.unit.validator.market import PREPARED, SALT, TASK, WINDOW, claimed, collected, failures, found, tiny_bases
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim
from validator.measuring.sketches import SketchSecret
from validator.settings import MeasureSettings
from validator.stages.measure import MeasureStage

CRASH, HANG = "crash", "hang"
GOOD, BETTER = (
    EntrantResult(entrant="", value=2.5, stderr=0.1, per_row=(2.4, 2.6)),
    EntrantResult(entrant="", value=1.5, stderr=0.1, per_row=(1.4, 1.6), extras={"perplexity": 4.5}),
)
REJECTED = EntrantResult(entrant="", failure_blame=Blame.MINER, failure_code="tensor_not_finite", failure_message="NaN")
NO_MEMORY = EntrantResult(
    entrant="", failure_blame=Blame.OPERATOR, failure_code="measuring_failed", failure_message="OOM"
)
NO_WORD = EntrantResult(entrant="")
NOT_FINITE = EntrantResult(entrant="", value=float("inf"), stderr=0.0)

Outcome = EntrantResult | str


class Evaluator:
    """An Executor: it leaves the next outcome of each entrant, and its process dies where the outcome is CRASH.

    It adopts the result of an earlier run of the same job, as real ones do.
    """

    def __init__(self, outcomes: Mapping[str, list[Outcome]]) -> None:
        self.outcomes = {entrant: list(given) for entrant, given in outcomes.items()}
        self.jobs: list[MeasureJob] = []
        self.at_once = self.most_at_once = 0

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        if (finished := finished_result(job)) is not None:
            return finished
        prepare_folder(job)
        asked = MeasureJob.model_validate(job.arguments)
        self.jobs.append(asked)
        asked.results_folder.mkdir(parents=True, exist_ok=True)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            for entrant in asked.entrants:
                report({"entrant": entrant.id, "rows_done": 0, "rows": 10})
                await self._leave(entrant.id, asked.results_folder)
        finally:
            self.at_once -= 1
        write_result(job.folder, job_digest=digest(job), result={})
        return {}

    async def _leave(self, entrant: str, folder: Path) -> None:
        given = self.outcomes[entrant]
        outcome = given.pop(0) if len(given) > 1 else given[0]
        await asyncio.sleep(3600.0 if outcome == HANG else 0.0)
        if isinstance(outcome, str):
            raise JobFailed("killed by SIGKILL", code="job_killed")
        (folder / f"{entrant}.json").write_text(outcome.model_copy(update={"entrant": entrant}).model_dump_json())

    def ran(self) -> list[list[str]]:
        """Who was measured in which job."""
        return [[entrant.id for entrant in job.entrants] for job in self.jobs]


class Market:
    """A task with repos, and the step that measures them."""

    def __init__(self, ledger: Ledger, folder: Path) -> None:
        self.ledger, self.folder, self.bases = ledger, folder, tiny_bases(folder)
        self.chain = FakeChain()
        self.gateway = self.chain.gateway("validator")
        self.devices, self.settings = 1, MeasureSettings()

    def measure(self, evaluator: Evaluator) -> None:
        claim = claimed(self.ledger, TaskState.COLLECTED)
        self.lease = claim.lease
        asyncio.run(self.run(evaluator, claim))

    async def run(self, evaluator: Evaluator, claim: Claim) -> None:
        await self.chain.advance(max(WINDOW.reveal_until_block - self.chain.graph.block, 0))
        stage = MeasureStage(
            self.ledger,
            self.gateway,
            self.bases,
            ContentStore(self.folder / "blobs"),
            evaluator,
            cpu_devices(self.devices),
            Folders(self.folder),
            self.settings,
        )
        await stage.run(claim)

    def values(self) -> dict[str, float]:
        return {entrant: m.value for entrant, m in self.ledger.submissions.measurements(TASK).items()}


@pytest.fixture
def market(ledger: Ledger, tmp_path: Path) -> Market:
    collected(ledger, ["alice", "bob", "carol"])
    return Market(ledger, tmp_path)


def _all_good(**others: list[Outcome]) -> dict[str, list[Outcome]]:
    return {BASE_ENTRANT: [GOOD], "alice": [BETTER], "bob": [BETTER], "carol": [BETTER], **others}


def test_all_are_measured_in_one_job_and_the_base_comes_first(market: Market) -> None:
    evaluator = Evaluator(_all_good())
    market.measure(evaluator)
    assert evaluator.ran() == [[BASE_ENTRANT, "alice", "bob", "carol"]]
    assert market.values() == {BASE_ENTRANT: 2.5, "alice": 1.5, "bob": 1.5, "carol": 1.5}
    assert found(market.ledger).state is TaskState.MEASURED
    assert {s.state for s in market.ledger.submissions.of_task(TASK)} == {SubmissionState.MEASURED}


def test_an_entrant_that_takes_too_long_costs_its_own_clock_and_nobody_elses(market: Market) -> None:
    market.settings = MeasureSettings(deadline_seconds=0.2)
    evaluator = Evaluator(_all_good(bob=[HANG]))
    market.measure(evaluator)
    assert evaluator.ran() == [[BASE_ENTRANT, "alice", "bob", "carol"], ["carol"], ["bob"]]
    assert failures(market.ledger) == {"bob": ("operator", "evaluation_failed")}
    assert set(market.values()) == {BASE_ENTRANT, "alice", "carol"}


def test_entrants_are_shared_out_over_the_devices_and_jobs_get_smaller_towards_the_end(
    ledger: Ledger, tmp_path: Path
) -> None:
    miners = [f"miner-{number:02}" for number in range(15)]
    collected(ledger, miners)
    market = Market(ledger, tmp_path)
    market.devices = 4
    evaluator = Evaluator({name: [GOOD] for name in [BASE_ENTRANT, *miners]})
    market.measure(evaluator)
    assert sorted(map(len, evaluator.ran()), reverse=True) == [3, 3, 2, 2, 2, 1, 1, 1, 1]
    assert sorted(name for job in evaluator.ran() for name in job) == sorted([BASE_ENTRANT, *miners])
    assert evaluator.most_at_once == 4
    assert len(market.values()) == 16


def test_jobs_that_leave_nothing_three_times_in_a_row_are_not_the_entrants_fault(
    ledger: Ledger, tmp_path: Path
) -> None:
    """The machine is broken: the base is tried alone, and nobody fails."""
    miners = [f"miner-{number:02}" for number in range(15)]
    collected(ledger, miners)
    market = Market(ledger, tmp_path)
    evaluator = Evaluator({name: [CRASH] for name in [BASE_ENTRANT, *miners]})
    with pytest.raises(JobFailed):
        market.measure(evaluator)
    assert len(evaluator.jobs) == 4
    assert failures(ledger) == {}


def test_the_job_names_the_held_out_rows_the_base_and_the_repos(market: Market) -> None:
    evaluator = Evaluator(_all_good())
    market.measure(evaluator)
    [job] = evaluator.jobs
    assert job.held_out_file == ContentStore(market.folder / "blobs").path(PREPARED.held_out.sha256)
    assert job.base_folder == market.bases.resolve("tiny").folder
    base, alice, *_ = job.entrants
    assert (base.folder, alice.folder) == (None, Folders(market.folder).submission(TASK, "alice"))


def test_the_seed_comes_from_the_salt_and_from_the_deadline_block_whoever_is_measured_and_whenever(
    market: Market,
) -> None:
    """The salt alone would let the operator know the seed while miners train."""
    evaluator = Evaluator(_all_good(base=[CRASH, CRASH, GOOD]))
    with pytest.raises(JobFailed):
        market.measure(evaluator)
    market.ledger.tasks.postpone(market.lease, seconds=0)
    market.measure(evaluator)
    assert len(evaluator.jobs) == 4
    hashed = asyncio.run(market.gateway.block_hash(WINDOW.deadline_block))
    assert {job.seed for job in evaluator.jobs} == {seed(SALT, "measure", hashed)}


def test_another_deadline_block_gives_another_seed(market: Market) -> None:
    seeds = set[int]()
    for deadline in (WINDOW.deadline_block, WINDOW.deadline_block + 1):
        evaluator = Evaluator({**_all_good(), BASE_ENTRANT: [CRASH]})
        lease = claimed(market.ledger, TaskState.COLLECTED).lease
        window = replace(WINDOW, deadline_block=deadline)
        market.ledger.tasks.set_window(lease, window, draw={}, also=lambda _: None)
        market.ledger.tasks.postpone(lease, seconds=0)
        with pytest.raises(JobFailed):
            market.measure(evaluator)
        market.ledger.tasks.postpone(market.lease, seconds=0)
        seeds.update(job.seed for job in evaluator.jobs)
    assert len(seeds) == 2


def test_fingerprints_are_kept_and_their_key_is_the_bases_own_and_secret(market: Market) -> None:
    sketched = Fingerprint((0.6, -0.8), (1.0, 0.0))
    evaluator = Evaluator(_all_good(alice=[BETTER.model_copy(update={"fingerprint": sketched})]))
    market.measure(evaluator)
    measured = market.ledger.submissions.measurements(TASK)
    assert {name: each.fingerprint for name, each in measured.items() if each.fingerprint} == {"alice": sketched}
    secret = SketchSecret.kept_in(Folders(market.folder).sketch_secret)
    [job] = evaluator.jobs
    season = season_of(WINDOW.deadline_block)
    assert job.sketch_key == secret.key(PREPARED.base_digest, season=season)
    assert secret.secret.hex() not in job.model_dump_json()


def test_a_chain_that_does_not_answer_is_asked_again_and_nothing_is_measured_before(market: Market) -> None:
    evaluator = Evaluator(_all_good())
    market.chain.outage = ChainUnreachable("a test unplugged the chain")
    with pytest.raises(ChainUnreachable):
        market.measure(evaluator)
    assert evaluator.jobs == []
    market.chain.outage = None
    market.ledger.tasks.postpone(market.lease, seconds=0)
    market.measure(evaluator)
    assert found(market.ledger).state is TaskState.MEASURED


def test_only_what_is_missing_is_measured(market: Market) -> None:
    """The validator died after the base and Alice were written down, and Bob had failed."""
    lease = claimed(market.ledger, TaskState.COLLECTED).lease
    for entrant in (BASE_ENTRANT, "alice"):
        market.ledger.submissions.measured(lease, Measurement(entrant, INSTRUCT.metric, 2.0, 0.1, (2.0, 2.0)))
    market.ledger.submissions.failed(lease, "bob", Failure(Blame.MINER, "tensor_not_finite", "NaN"))
    market.ledger.tasks.postpone(lease, seconds=0)
    evaluator = Evaluator(_all_good())
    market.measure(evaluator)
    assert evaluator.ran() == [["carol"]]
    assert market.values() == {BASE_ENTRANT: 2.0, "alice": 2.0, "carol": 1.5}


def test_a_task_without_submissions_has_a_measured_base(ledger: Ledger, tmp_path: Path) -> None:
    collected(ledger, [])
    market = Market(ledger, tmp_path)
    market.measure(Evaluator({BASE_ENTRANT: [GOOD]}))
    assert market.values() == {BASE_ENTRANT: 2.5}


def test_a_submission_with_a_failure_of_its_own_fails_alone(market: Market) -> None:
    evaluator = Evaluator(_all_good(bob=[REJECTED]))
    market.measure(evaluator)
    assert len(evaluator.jobs) == 1
    assert failures(market.ledger) == {"bob": ("miner", "tensor_not_finite")}
    assert set(market.values()) == {BASE_ENTRANT, "alice", "carol"}


def test_a_submission_that_brings_the_worker_down_costs_nobody_anything(market: Market) -> None:
    evaluator = Evaluator(_all_good(bob=[CRASH]))
    market.measure(evaluator)
    assert evaluator.ran() == [[BASE_ENTRANT, "alice", "bob", "carol"], ["carol"], ["bob"]]
    assert failures(market.ledger) == {"bob": ("operator", "evaluation_failed")}
    assert set(market.values()) == {BASE_ENTRANT, "alice", "carol"}
    assert found(market.ledger).state is TaskState.MEASURED


@pytest.mark.parametrize("first", [NO_MEMORY, NO_WORD, NOT_FINITE])
def test_what_fails_by_our_fault_is_measured_again_alone(market: Market, first: EntrantResult) -> None:
    evaluator = Evaluator(_all_good(bob=[first, BETTER]))
    market.measure(evaluator)
    assert evaluator.ran()[1:] == [["bob"]]
    assert failures(market.ledger) == {}
    assert market.values()["bob"] == 1.5


@pytest.mark.parametrize("always", [NO_MEMORY, NO_WORD, NOT_FINITE])
def test_what_keeps_failing_by_our_fault_never_blames_the_miner(market: Market, always: EntrantResult) -> None:
    market.measure(Evaluator(_all_good(bob=[always])))
    assert failures(market.ledger) == {"bob": ("operator", "evaluation_failed")}


@pytest.mark.parametrize("failure", [NO_MEMORY, CRASH, REJECTED])
def test_a_base_that_cannot_be_measured_is_tried_again_by_the_engine(market: Market, failure: Outcome) -> None:
    """The next attempt runs the job again; it does not adopt the result of the one that failed."""
    evaluator = Evaluator(_all_good(base=[failure, failure, GOOD]))
    with pytest.raises(JobFailed, match="The base could not be measured"):
        market.measure(evaluator)
    assert found(market.ledger).state is TaskState.COLLECTED
    market.ledger.tasks.postpone(market.lease, seconds=0)
    market.measure(evaluator)
    assert market.values()[BASE_ENTRANT] == 2.5
    assert found(market.ledger).state is TaskState.MEASURED


def test_a_job_that_was_finished_before_a_crash_is_adopted(market: Market, clock: HandClock) -> None:
    """The worker was done, and the validator died before it wrote anything down."""
    evaluator = Evaluator(_all_good())
    stale = claimed(market.ledger, TaskState.COLLECTED)
    clock.time += 16
    other = claimed(market.ledger, TaskState.COLLECTED, owner="other")
    with pytest.raises(LeaseLost):
        asyncio.run(market.run(evaluator, stale))
    assert market.values() == {}
    market.ledger.tasks.postpone(other.lease, seconds=0)
    market.measure(evaluator)
    assert len(evaluator.jobs) == 1
    assert len(market.values()) == 4
