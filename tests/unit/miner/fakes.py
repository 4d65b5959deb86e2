"""A chain, a trainer and a machine for the miner's tests, and the messages that start a task."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from gradients.axon.messages import BlobName, Offer, Start
from gradients.domain.chain import AxonAddress, Commitment, Metagraph, Neuron, WeightsReceipt
from gradients.domain.emission import EmissionTerms
from gradients.domain.json import JsonObject
from gradients.domain.task import Hotkey
from gradients.execution.job import Job, ReportProgress
from gradients.tasks.hand_in import HandIn
from gradients.tasks.jobs.models import CHECK_REPO
from gradients.tasks.jobs.training import TrainJob, TrainResult

TASK = "instruct-0123456789ab"
OTHER_TASK = "instruct-ba9876543210"
LOOK_SECONDS = 0.01
BASE_DIGEST = "b" * 64
ROWS = b'{"system":null,"prompt":"Say hello","completion":"Hello"}\n' * 3


class Killed(BaseException):
    """SIGKILL as far as the code under test can tell: no handler of failures sees it."""


@dataclass
class FakeChain:
    """A ChainGateway whose blocks a test moves by `height`; it kills the process before or after a commitment when told to.

    Not the FakeChain of gradients/testing: that one lives in one event loop, this one sees several processes of a miner come and go.
    """

    hotkey: Hotkey
    neurons: tuple[Neuron, ...] = ()
    netuid: int = 3
    height: int = 10
    seconds: float = 12.0
    late_blocks: int = 0  # between the block that everybody sees and the one that takes a commitment
    commits: list[Commitment] = field(default_factory=list)
    die_before_commit: bool = False
    die_after_commit: bool = False
    errors: list[Exception] = field(default_factory=list)  # raised by the next calls, first to last
    commit_errors: list[Exception] = field(default_factory=list)  # raised by the next commits

    async def block(self) -> int:
        return self.height

    async def block_hash(self, block: int) -> str:
        raise AssertionError("a miner asks for no hash")

    async def block_seconds(self) -> float:
        self._fail_if_told()
        return self.seconds

    async def head_time(self) -> float:
        return time.time()

    async def stake_threshold_alpha(self) -> float:
        raise AssertionError("a miner sets no weights")

    async def heads(self) -> AsyncIterator[int]:
        while True:
            yield self.height
            await asyncio.sleep(LOOK_SECONDS)

    async def metagraph(self) -> Metagraph:
        return Metagraph(
            netuid=self.netuid,
            block=self.height,
            tempo_blocks=20,
            last_epoch_block=0,
            neurons=self.neurons,
            owner_hotkey=Hotkey("owner"),
            weights_version=0,
            weights_rate_limit_blocks=0,
            commit_reveal=False,
        )

    async def emission_terms(self) -> EmissionTerms:
        raise AssertionError("a miner asks for no subnet's pay")

    async def commitments(self, *, block: int | None = None) -> Mapping[Hotkey, Commitment]:
        self._fail_if_told()
        standing = [made for made in self.commits if block is None or made.block <= block]
        return {self.hotkey: standing[-1]} if standing else {}

    async def weights_of(self, uid: int) -> Mapping[int, float]:
        return {}

    async def balance_tao(self) -> float:
        return 1.0

    async def register(self) -> int:
        return 0

    async def publish_axon(self, address: AxonAddress) -> bool:
        return True

    async def commit(self, payload: bytes) -> int:
        if self.die_before_commit:
            raise Killed
        self._fail_if_told()
        if self.commit_errors:
            raise self.commit_errors.pop(0)
        if not self.commits or self.commits[-1].payload != payload:
            self.commits.append(Commitment(self.hotkey, payload, self.height + self.late_blocks))
        if self.die_after_commit:
            raise Killed
        return self.commits[-1].block

    async def set_weights(
        self, shares: Mapping[int, float], *, version_key: int, lifetime_blocks: int = 128
    ) -> WeightsReceipt:
        raise AssertionError("a miner sets no weights")

    async def close(self) -> None:
        pass

    def _fail_if_told(self) -> None:
        if self.errors:
            raise self.errors.pop(0)


@dataclass
class FakeTrainer:
    """An Executor that writes a model in no time. `jobs` are all that it was asked for."""

    jobs: list[TrainJob] = field(default_factory=list)
    die_before: bool = False
    die_after: bool = False
    error: Exception | None = None
    deaths: list[tuple[float, Exception]] = field(
        default_factory=list
    )  # how far a worker comes, and what it ends with; one a start
    hands_in: bool = False  # whether a worker that dies has handed a model in before
    seconds: list[float] = field(default_factory=list)  # deadlines of the jobs
    checked: list[Path] = field(default_factory=list)  # repos that it was asked to look at
    check_error: Exception | None = None

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        if job.function == CHECK_REPO:
            self.checked.append(Path(str(job.arguments["repo_folder"])))
            if self.check_error is not None:
                raise self.check_error
            return {"changed": 1}
        asked = TrainJob.model_validate(job.arguments)
        self.jobs.append(asked)
        if self.die_before:
            raise Killed
        self.seconds.append(job.deadline_seconds)
        if self.error is not None:
            raise self.error
        if self.deaths:
            fraction, death = self.deaths.pop(0)
            report({"phase": "training", "fraction": fraction, "step": 1, "loss": 2.5})
            if self.hands_in:
                self._leave(asked, steps=6, is_final=False)
            raise death
        report({"phase": "training", "fraction": 0.5, "step": 7, "loss": 2.5})
        done = self._leave(asked, steps=14, is_final=True)
        if self.die_after:
            raise Killed
        return done.model_dump(mode="json")

    def _leave(self, asked: TrainJob, *, steps: int, is_final: bool) -> TrainResult:
        """Hand a model in, which is another one after other steps."""

        def write(folder: Path) -> None:
            own = np.frombuffer(f"{asked.output_folder.parent.name} {steps}".encode(), np.uint8)
            (folder / "adapter_model.safetensors").write_bytes(save({"weights": own}))
            (folder / "adapter_config.json").write_text("{}")

        result = TrainResult(
            kind="adapter",
            steps=steps,
            rows_seen=112,
            batch_rows=8,
            epochs=1.0,
            candidates=1,
            averaged=1,
            learning_rate=1e-3,
            train_loss=2.0,
            validation_loss=2.1,
            seconds=3.0,
        )
        asked.checkpoint_folder.mkdir(parents=True, exist_ok=True)
        HandIn(digest="", result=result, is_final=is_final).leave(asked.checkpoint_folder, asked.output_folder, write)
        return result


@dataclass
class FakeClock:
    """A Clock that jumps; `on_sleep` lets the world go on while somebody sleeps."""

    seconds: float = 1_000_000.0
    slept: list[float] = field(default_factory=list)
    on_sleep: Callable[[], None] = field(default=lambda: None)

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.seconds += seconds
        self.on_sleep()
        await asyncio.sleep(2 * LOOK_SECONDS)  # for others to see what has changed


def neuron(hotkey: str, axon: AxonAddress | None, *, uid: int = 0) -> Neuron:
    return Neuron(
        uid=uid,
        hotkey=Hotkey(hotkey),
        coldkey="cold",
        axon=axon,
        validator_permit=True,
        stake_alpha=1000.0,
        incentive=0.0,
        dividends=0.0,
        emission_alpha=0.0,
        last_update_block=0,
        registered_at_block=0,
    )


def offer(task_id: str = TASK, **changes: object) -> Offer:
    fields = {
        "task_id": task_id,
        "type": "instruct",
        "base": "tiny",
        "base_digest": BASE_DIGEST,
        "base_parameters": 100_000,
        "train_rows": 3,
        "hours": 0.5,
    }
    return Offer.model_validate({**fields, **changes})


def start(task_id: str = TASK, *, base_digest: str = BASE_DIGEST, **changes: object) -> Start:
    """A start at block 10 that ends 100 blocks (20 minutes) later."""
    fields: dict[str, object] = {
        "offer": offer(task_id, base_digest=base_digest),
        "parameters": {},
        "train": BlobName(sha256=hashlib.sha256(ROWS).hexdigest(), size_bytes=len(ROWS)),
        "held_out_commitment": "c" * 64,
        "draw_sha256": "d" * 64,
        "started_at_block": 10,
        "deadline_block": 110,
        "reveal_until_block": 160,
        "seed": 5,
    }
    return Start.model_validate({**fields, **changes})


def write_base(folder: Path) -> Path:
    """A base of 100 weights that nobody could load."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    save_file({"weight": np.zeros((10, 10), dtype=np.float16)}, folder / "model.safetensors")
    return folder
