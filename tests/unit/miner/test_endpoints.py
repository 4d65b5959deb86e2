"""What validators get from a miner's axon, over real HTTP with real signatures; only the chain and the trainer are made up."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gradients.axon.auth import MetagraphPolicy, Nonces
from gradients.axon.client import AxonClient, Peer
from gradients.axon.messages import AttemptStatus, OfferAnswer, Reveal, Start, StartAnswer
from gradients.axon.serve import serving
from gradients.axon.server import signed_app
from gradients.bases.bases import BaseModels
from gradients.chain.view import ChainView
from gradients.chain.wallet import open_wallet
from gradients.domain.commitment import Opening, ProofStep, opens, payload
from gradients.domain.task import Hotkey
from gradients.errors import PeerRefused
from gradients.repo.manifest import TrainingSummary, describe_folder, parse_manifest
from gradients.tasks.footprint import USABLE
from miner.bases import KnownBases
from miner.endpoints import Endpoints, add_routes
from miner.fit import CPU_RUNTIME_BYTES
from miner.journal import REPO, Journal, openings
from miner.memory import GIB, Memory
from miner.plan import Recipe
from miner.settings import MinerSettings
from tests.unit.miner.fakes import OTHER_TASK, TASK, FakeChain, FakeClock, neuron, offer, start, write_base

MINER, VALIDATOR, SECOND = (open_wallet(name, f"{name}//hot") for name in ("//Miner", "//Validator", "//Second"))
RECIPE = Recipe.model_validate(
    {"name": "tiny-lora", "plan": {"method": "lora"}, "learning_rate": [{"up_to_parameters": "inf", "value": 1e-3}]}
)
WEIGHTS = b"0123456789" * 1000


@dataclass
class Setting:
    """A miner that serves, and two validators that call it."""

    endpoints: Endpoints
    chain: FakeChain
    begun: list[str]
    peer: Peer
    validator: AxonClient
    second: AxonClient
    base_digest: str

    def start(self, task_id: str = TASK, **changes: object) -> Start:
        return start(task_id, base_digest=self.base_digest, **changes)

    async def begin(self, message: Start, client: AxonClient | None = None) -> StartAnswer:
        return await (client or self.validator).post(self.peer, "/v1/tasks", message, answer=StartAnswer)

    async def finish(self, task_id: str) -> None:
        """As the attempt leaves it: a model, its manifest, and a root on chain."""
        journal = self.endpoints.journal
        folder = journal.folder(task_id) / REPO
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(WEIGHTS)
        manifest = describe_folder(
            folder,
            task_id=task_id,
            hotkey=self.chain.hotkey,
            base_digest=self.base_digest,
            kind="adapter",
            training=TrainingSummary(),
        )
        journal.change(task_id, manifest=manifest.text())
        held = openings(journal.all(), netuid=self.chain.netuid, hotkey=self.chain.hotkey, block=self.chain.height)
        leaves = [opening.leaf() for opening in held.values()]
        block = await self.chain.commit(payload(leaves))
        for each in held:
            journal.change(each, leaves=tuple(leaf.hex() for leaf in leaves))
        journal.change(task_id, committed_at_block=block)

    async def reach(self, block: int) -> None:
        self.chain.height = block
        await self.endpoints.view.start()


@contextlib.asynccontextmanager
async def serving_miner(folder: Path, **settings: object) -> AsyncIterator[Setting]:
    keys = (MINER, VALIDATOR, SECOND)
    neurons = tuple(neuron(key.hotkey.ss58_address, None, uid=uid) for uid, key in enumerate(keys))
    chain, clock = FakeChain(Hotkey(MINER.hotkey.ss58_address), neurons), FakeClock()
    view = ChainView(chain, clock)
    await view.start()
    write_base(folder / "bases" / "tiny")
    bases, begun = BaseModels(shipped=folder / "bases", cache=folder / "cache"), list[str]()
    endpoints = Endpoints(
        journal=Journal(folder / "tasks"),
        gateway=chain,
        view=view,
        bases=KnownBases(bases),
        settings=MinerSettings.model_validate({"task_types": ("instruct",), "concurrent_tasks": 4, **settings}),
        recipe=RECIPE,
        memory=Memory(16 * GIB),
        clock=clock,
        begin=begun.append,
    )
    policy = MetagraphPolicy(view.metagraph, validators_only=True)
    app = signed_app(keypair=MINER.hotkey, policy=policy, nonces=Nonces(started_ns=0))
    add_routes(app, endpoints)
    clients = [AxonClient(key.hotkey, allow_private=True) for key in (VALIDATOR, SECOND)]
    async with serving(app, "127.0.0.2", 0) as address:
        peer = Peer(chain.hotkey, address)
        yield Setting(endpoints, chain, begun, peer, clients[0], clients[1], bases.resolve("tiny").digest)
    for client in clients:
        await client.close()


def play(folder: Path, scene: Callable[[Setting], Awaitable[None]], **settings: object) -> None:
    async def main() -> None:
        async with serving_miner(folder, **settings) as setting:
            await scene(setting)

    asyncio.run(main())


def test_a_base_that_is_a_path_of_the_miners_machine_is_declined(tmp_path: Path) -> None:
    """Even one that lies there: a validator could ask what else does."""

    async def scene(s: Setting) -> None:
        for base in (str(tmp_path / "bases" / "tiny"), "../bases/tiny", str(tmp_path / "nothing")):
            named = offer(base_digest=s.base_digest).model_copy(update={"base": base})
            answer = await s.validator.post(s.peer, "/v1/offers", named, answer=OfferAnswer)
            assert not answer.accepted
            assert f"the base {base} cannot be had here: There is no base model" in answer.reason

    play(tmp_path, scene)


def test_an_offer_is_answered_and_begins_nothing(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        good = offer(base_digest=s.base_digest)
        answer = await s.validator.post(s.peer, "/v1/offers", good, answer=OfferAnswer)
        assert (answer.accepted, answer.recipe) == (True, "tiny-lora")
        assert s.begun == []
        with pytest.raises(PeerRefused) as caught:
            await s.validator.get(s.peer, f"/v1/tasks/{TASK}", answer=AttemptStatus)
        assert caught.value.code == "not_found"

    play(tmp_path, scene)


def test_nothing_is_taken_while_something_stands_against_training(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        s.endpoints.obstacle = lambda: "folder: 3 MiB free at /srv/miner/data"
        good = offer(base_digest=s.base_digest)
        answer = await s.validator.post(s.peer, "/v1/offers", good, answer=OfferAnswer)
        assert not answer.accepted
        assert answer.reason.startswith("folder: 3 MiB free")
        assert "/srv" not in answer.reason

    play(tmp_path, scene)


def test_a_base_that_is_not_here_is_fetched_while_its_offer_is_declined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.2:9")  # where nobody listens

    async def scene(s: Setting) -> None:
        s.endpoints.bases.answer_seconds = 0.0
        wanted = offer(base="org/name", base_digest=s.base_digest)
        answer = await s.validator.post(s.peer, "/v1/offers", wanted, answer=OfferAnswer)
        assert answer.reason == "the base org/name cannot be had here: it is being fetched"
        assert list(s.endpoints.bases.searches) == ["org/name"]

    play(tmp_path, scene)


@pytest.mark.parametrize("changes", [{"type": "chat"}, {"hours": 200.0}, {"base_parameters": 10**11}])
def test_nothing_is_fetched_for_a_task_that_is_not_taken_anyway(tmp_path: Path, changes: dict[str, object]) -> None:
    async def scene(s: Setting) -> None:
        unwanted = offer(TASK, base="org/name", **changes)
        assert not (await s.validator.post(s.peer, "/v1/offers", unwanted, answer=OfferAnswer)).accepted
        assert s.endpoints.bases.searches == {}

    play(tmp_path, scene)


def test_a_base_that_nobody_knows_is_declined_by_its_name(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        answer = await s.validator.post(s.peer, "/v1/offers", offer(base="no-such-base"), answer=OfferAnswer)
        assert not answer.accepted
        assert "no-such-base" in answer.reason

    play(tmp_path, scene)


def test_a_base_that_is_too_large_for_the_memory_is_declined(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        s.endpoints.memory = Memory(1 * GIB)  # the reserve alone is as much
        answer = await s.validator.post(s.peer, "/v1/offers", offer(base_digest=s.base_digest), answer=OfferAnswer)
        assert not answer.accepted
        assert "GiB of memory" in answer.reason

    play(tmp_path, scene)


def test_a_start_is_declined_where_its_own_rows_do_not_fit_or_its_parameters_are_unknown(tmp_path: Path) -> None:
    """The memory has room for 15 MB: rows of 64 tokens, which an offer cannot tell, and none of the recipe's 512."""

    async def scene(s: Setting) -> None:
        for task, parameters, reason in (
            (OTHER_TASK, {"max_tokens": 512}, "GiB of memory"),
            (OTHER_TASK, {"colour": "red"}, "parameters.colour"),
            (TASK, {"max_tokens": 64}, ""),
        ):
            s.endpoints.memory = Memory(round((CPU_RUNTIME_BYTES + 15e6) / USABLE))
            answer = await s.begin(s.start(task, parameters=parameters))
            assert answer.accepted == (not reason)
            assert reason in answer.reason

    play(tmp_path, scene, concurrent_tasks=1)


def test_a_task_that_runs_programs_is_declined_where_there_is_no_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(s: Setting) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        wanted = offer(base_digest=s.base_digest)
        assert (await s.validator.post(s.peer, "/v1/offers", wanted, answer=OfferAnswer)).accepted
        needs = wanted.model_copy(update={"needs_sandbox": True})
        answer = await s.validator.post(s.peer, "/v1/offers", needs, answer=OfferAnswer)
        assert answer.reason == "this instruct task runs programs, and there is no bubblewrap here"

    play(tmp_path, scene)


def test_the_same_start_twice_is_answered_twice_and_begun_once(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        answers = [await s.begin(s.start()) for _ in range(2)]
        assert [answer.accepted for answer in answers] == [True, True]
        assert s.begun == [TASK]

    play(tmp_path, scene)


def test_the_same_start_twice_at_once_is_begun_once(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        answers = await asyncio.gather(*(s.begin(s.start()) for _ in range(5)))
        assert all(answer.accepted for answer in answers)
        assert s.begun == [TASK]

    play(tmp_path, scene)


def test_two_starts_at_once_do_not_take_one_place(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        answers = await asyncio.gather(*(s.begin(s.start(task)) for task in (TASK, OTHER_TASK)))
        assert sorted(answer.accepted for answer in answers) == [False, True]
        assert len(s.begun) == 1

    play(tmp_path, scene, concurrent_tasks=1)


def test_a_begun_task_is_nobody_elses_and_keeps_its_terms(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        await s.begin(s.start())
        by_another = await s.begin(s.start(), s.second)
        otherwise = await s.begin(s.start(seed=6))
        assert [by_another.accepted, otherwise.accepted] == [False, False]
        assert by_another.reason == "begun already with other terms"
        assert s.endpoints.journal.all()[0].start.seed == 5

    play(tmp_path, scene)


def test_a_second_validator_gets_a_place_of_its_own(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        assert (await s.begin(s.start())).accepted
        assert (await s.begin(s.start(OTHER_TASK), s.second)).accepted
        assert s.begun == [TASK, OTHER_TASK]
        assert [record.validator for record in s.endpoints.journal.all()] == [
            VALIDATOR.hotkey.ss58_address,
            SECOND.hotkey.ss58_address,
        ]

    play(tmp_path, scene)


def test_a_second_validators_offer_is_declined_while_all_places_are_taken(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        await s.begin(s.start())
        message = offer(OTHER_TASK, base_digest=s.base_digest)
        answer = await s.second.post(s.peer, "/v1/offers", message, answer=OfferAnswer)
        assert (answer.accepted, answer.reason) == (False, "1 tasks are being trained already")
        await s.reach(111)  # the deadline has passed: the place is free whatever became of the task
        answer = await s.second.post(s.peer, "/v1/offers", message, answer=OfferAnswer)
        assert answer.accepted

    play(tmp_path, scene, concurrent_tasks=1)


def test_a_start_whose_time_is_over_is_declined(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        await s.reach(110)
        answer = await s.begin(s.start())
        assert (answer.accepted, answer.reason) == (False, "no time is left before block 110")
        assert s.begun == []

    play(tmp_path, scene)


def test_the_status_follows_the_training(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        async def status() -> AttemptStatus:
            return await s.second.get(s.peer, f"/v1/tasks/{TASK}", answer=AttemptStatus)

        await s.begin(s.start())
        assert (await status()).phase == "queued"
        s.endpoints.tell(TASK, {"phase": "training", "fraction": 0.25, "step": 40, "loss": 2.5})
        seen = await status()
        assert (seen.phase, seen.fraction, seen.step, seen.loss) == ("training", 0.25, 40, 2.5)
        await s.finish(TASK)
        assert ((await status()).phase, (await status()).fraction) == ("committed", 1.0)
        s.endpoints.journal.change(TASK, failure="job_failed: out of memory")
        assert ((await status()).phase, (await status()).problem) == ("failed", "job_failed: out of memory")

    play(tmp_path, scene)


def test_others_hear_of_a_failure_its_code_and_first_line_without_paths_of_this_machine(tmp_path: Path) -> None:
    failure = (
        f"out_of_memory: train ran out of memory, see {tmp_path}/job/stderr.log; it said last:\nkey=secret\nTraceback"
    )

    async def scene(s: Setting) -> None:
        await s.begin(s.start())
        s.endpoints.journal.change(TASK, failure=failure)
        status = await s.validator.get(s.peer, f"/v1/tasks/{TASK}", answer=AttemptStatus)
        assert status.problem == "out_of_memory: train ran out of memory, see …; it said last:"
        await s.reach(111)
        with pytest.raises(PeerRefused) as caught:
            await s.validator.get(s.peer, f"/v1/tasks/{TASK}/submission", answer=Reveal)
        assert "secret" not in str(caught.value)
        assert str(tmp_path) not in str(caught.value)

    play(tmp_path, scene)


@pytest.mark.parametrize("path", ["submission", "files/adapter_model.safetensors"])
def test_nothing_is_shown_up_to_the_deadline_block(tmp_path: Path, path: str) -> None:
    async def scene(s: Setting) -> None:
        await s.begin(s.start())
        await s.finish(TASK)
        for block in (10, 110):
            await s.reach(block)
            with pytest.raises(PeerRefused) as caught:
                await s.validator.get(s.peer, f"/v1/tasks/{TASK}/{path}", answer=Reveal)
            assert caught.value.code == "sealed"

    play(tmp_path, scene)


def test_the_revealed_manifest_is_in_the_root_that_stands_on_chain(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        for task_id in (TASK, OTHER_TASK):
            await s.begin(s.start(task_id))
            await s.finish(task_id)
        await s.reach(111)
        standing = (await s.chain.commitments(block=110))[s.chain.hotkey].payload
        for task_id in (TASK, OTHER_TASK):
            reveal = await s.validator.get(s.peer, f"/v1/tasks/{task_id}/submission", answer=Reveal)
            proof = [ProofStep(step.height, step.sibling) for step in reveal.proof]
            digest = hashlib.sha256(reveal.manifest.encode()).hexdigest()
            assert opens(standing, Opening(s.chain.netuid, task_id, s.chain.hotkey, digest, reveal.salt), proof)

    play(tmp_path, scene)


def test_files_are_served_whole_and_by_range_after_the_deadline(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        await s.begin(s.start())
        await s.finish(TASK)
        await s.reach(111)
        reveal = await s.validator.get(s.peer, f"/v1/tasks/{TASK}/submission", answer=Reveal)
        (name,) = parse_manifest(reveal.manifest).files
        for offset in (0, 9_990):
            async with s.second.stream(s.peer, f"/v1/tasks/{TASK}/files/{name}", offset=offset) as chunks:
                assert b"".join([chunk async for chunk in chunks]) == WEIGHTS[offset:]

    play(tmp_path, scene)


@pytest.mark.parametrize("name", ["record.json", "..%2Frecord.json", "%2e%2e", "other.safetensors"])
def test_only_the_manifests_files_are_served(tmp_path: Path, name: str) -> None:
    async def scene(s: Setting) -> None:
        await s.begin(s.start())
        await s.finish(TASK)
        await s.reach(111)
        with pytest.raises(PeerRefused) as caught:
            await s.validator.get(s.peer, f"/v1/tasks/{TASK}/files/{name}", answer=Reveal)
        assert caught.value.code == "not_found"

    play(tmp_path, scene)


def test_a_task_that_failed_shows_why_there_is_no_submission(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        await s.begin(s.start())
        s.endpoints.journal.change(TASK, failure="job_failed: out of memory")
        await s.reach(111)
        with pytest.raises(PeerRefused, match="out of memory") as caught:
            await s.validator.get(s.peer, f"/v1/tasks/{TASK}/submission", answer=Reveal)
        assert caught.value.code == "no_submission"
        status = await s.validator.get(s.peer, f"/v1/tasks/{TASK}", answer=AttemptStatus)
        assert (status.task_id, status.phase) == (TASK, "failed")  # by which validators stop waiting for it

    play(tmp_path, scene)


def test_a_model_that_was_never_committed_is_not_shown(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        await s.begin(s.start())
        await s.finish(TASK)
        s.endpoints.journal.change(TASK, committed_at_block=None)
        await s.reach(111)
        with pytest.raises(PeerRefused) as caught:
            await s.validator.get(s.peer, f"/v1/tasks/{TASK}/submission", answer=Reveal)
        assert caught.value.code == "no_submission"

    play(tmp_path, scene)


@pytest.mark.parametrize("path", ["", "/submission", "/files/x"])
def test_a_task_that_was_never_accepted_is_not_found(tmp_path: Path, path: str) -> None:
    async def scene(s: Setting) -> None:
        with pytest.raises(PeerRefused) as caught:
            await s.validator.get(s.peer, f"/v1/tasks/{TASK}{path}", answer=AttemptStatus)
        assert caught.value.code == "not_found"

    play(tmp_path, scene)


def test_an_offer_that_is_declined_again_and_again_is_logged_once(tmp_path: Path) -> None:
    async def scene(s: Setting) -> None:
        asked = offer(base_digest=s.base_digest, hours=100.0)
        with capture_logs() as logs:
            for message in (asked, asked, asked.model_copy(update={"task_id": OTHER_TASK})):
                answer = await s.validator.post(s.peer, "/v1/offers", message, answer=OfferAnswer)
        assert "are more than" in answer.reason
        declined = [log for log in logs if log["event"] == "offer_declined"]
        assert [(log["task"], log["log_level"]) for log in declined] == [(TASK, "info"), (OTHER_TASK, "info")]
        assert declined[0]["reason"] == answer.reason

    play(tmp_path, scene)
