"""Words of hostile miners and customers cost nobody else anything, on every database and through the real stages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydantic import BaseModel, ValidationError

from gradients.axon import messages
from gradients.domain.evaluation import Measurement, Metric, Placing
from gradients.domain.failure import Failure
from gradients.domain.submission import BASE_ENTRANT, SubmissionState
from gradients.domain.task import TaskState
from gradients.errors import Blame, GradientsError, SubmissionRejected
from gradients.testing.clock import HandClock
from gradients.testing.fake_chain import FakeChain
from tests.unit.validator.market import TASK, WINDOW, StandIn, Subnet, claimed, collected, opened, request_for
from validator.ledger import Ledger
from validator.settings import CollectSettings, OfferSettings
from validator.stages.offer import OfferStage
from validator.stages.score import ScoreStage

HOSTILE = {
    "a NUL": "x\x00y",
    "an escape": "\x1b[2J\x1b]8;;http://evil\x07",
    "markup": "[/nope]",
    "writing turned around": "\u202ecod.exe",
    "lines": "one\ntwo\r\n",
    "the longest": "\x00" * 64,
}


@pytest.fixture
def ledger(database_url: str, clock: HandClock) -> Iterator[Ledger]:
    opened_ledger = Ledger.open(database_url, clock)
    yield opened_ledger
    opened_ledger.engine.dispose()


def _offer(ledger: Ledger, clock: HandClock, *miners: StandIn) -> None:
    subnet = Subnet(clock)
    stage = OfferStage(
        ledger=ledger,
        gateway=subnet.gateway,
        view=subnet.view,
        client=subnet.client(),
        clock=clock,
        settings=OfferSettings(pool_size=15, answer_seconds=60.0, quiet_seconds=60.0, retry_seconds=15.0, tries=3),
        collect=CollectSettings(reveal_seconds=30.0),
    )

    async def scenario() -> None:
        await subnet.start(*miners)
        async with subnet.serving(*miners):
            await stage.run(claimed(ledger, TaskState.OPEN))
        await stage.client.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_a_miners_words_stop_no_task(ledger: Ledger, clock: HandClock, words: str) -> None:
    """One says it in its recipe, one in its refusal to start; the honest one is started, and nothing stored has an effect."""
    opened(ledger, request_for())
    honest, rude, unwilling = StandIn("alice"), StandIn("bob", words=words), StandIn("carol", words=words, begins=False)
    _offer(ledger, clock, honest, rude, unwilling)
    found = {s.hotkey: s for s in ledger.submissions.of_task(TASK)}
    assert found[honest.hotkey].state is SubmissionState.STARTED
    assert found[rude.hotkey].state is SubmissionState.STARTED
    declined = found[unwilling.hotkey].failure
    assert declined is not None
    assert declined.code == "start_declined"
    for said in (found[rude.hotkey].recipe, declined.message):
        assert said.isprintable()


@pytest.mark.parametrize("words", ["x" * 900_000, "\ud83d"], ids=["too long", "half a character"])
def test_an_answer_that_is_not_text_costs_its_miner_the_task(ledger: Ledger, clock: HandClock, words: str) -> None:
    opened(ledger, request_for())
    honest, rude = StandIn("alice"), StandIn("bob", words=words)
    _offer(ledger, clock, honest, rude)
    assert [s.hotkey for s in ledger.submissions.of_task(TASK)] == [honest.hotkey]


def _scored(ledger: Ledger, clock: HandClock, said: GradientsError) -> dict[str, Placing]:
    """A task with an honest miner and one whose submission ended in what its files made us say."""
    collected(ledger, ["honest", "rude"], request_for())
    lease, metric = claimed(ledger, TaskState.COLLECTED).lease, Metric("loss", "nats", 1, "lower")
    ledger.submissions.failed(lease, "rude", Failure.of(said))
    for entrant, value in ((BASE_ENTRANT, 3.0), ("honest", 2.0)):
        rows = tuple(value + 0.001 * (n % 3 - 1) for n in range(30))
        ledger.submissions.measured(lease, Measurement(entrant, metric, value=value, stderr=0.0, per_row=rows))
    ledger.tasks.advance(lease, came_from=TaskState.COLLECTED, to=TaskState.MEASURED)

    async def scenario() -> None:
        chain = FakeChain()
        await chain.advance(WINDOW.deadline_block + 9)
        await ScoreStage(ledger, chain.gateway("validator"), clock).run(claimed(ledger, TaskState.MEASURED))

    asyncio.run(scenario())
    return {placing.hotkey: placing for placing in ledger.placings.of_task(TASK)}


@pytest.mark.parametrize("name", [*HOSTILE.values(), "\ud800", "x" * 900_000], ids=[*HOSTILE, "half a letter", "long"])
def test_what_a_tensor_or_a_key_is_called_keeps_no_task_from_its_score(
    ledger: Ledger, clock: HandClock, name: str
) -> None:
    placed = _scored(ledger, clock, SubmissionRejected(f"{name} is not a weight of the base", code="tensor_unknown"))
    assert (placed["honest"].rank, placed["rude"].rank, placed["rude"].fault) == (1, None, Blame.MINER)
    assert len(placed["rude"].reason) < 5_000
    assert not set(placed["rude"].reason) & set("\x00\x1b\x07\u202e\ud800")


@pytest.mark.parametrize("name", [*HOSTILE.values(), "\ud800"], ids=[*HOSTILE, "half a letter"])
def test_json_of_customers_and_events_is_kept_whatever_its_texts_hold(ledger: Ledger, name: str) -> None:
    request = replace(request_for(), parameters={name: [name, {"deep": name}]})
    ledger.tasks.create(TASK, request, customer=name[:60], salt=b"s" * 32)
    kept = ledger.tasks.find(TASK)
    assert kept is not None
    assert kept.request == request
    claim = claimed(ledger, TaskState.DRAFT)
    ledger.tasks.postpone(claim.lease, seconds=1, problem=name)
    assert ledger.events.of_task(TASK)[-1].fields == {"problem": name}


def test_a_name_that_no_database_takes_is_the_name_of_nothing(ledger: Ledger) -> None:
    for name in ("\x00", "a\x00b", "\ud800"):
        assert ledger.tasks.find(name) is None
        assert ledger.submissions.manifest(name, name) is None
        assert ledger.events.of_task(name) == []


def test_a_text_that_is_longer_than_its_column_is_cut_and_names_nothing_else(ledger: Ledger) -> None:
    key = ledger.customers.issue("c" * 1_000)
    customer = ledger.customers.of_key(key)
    assert customer is not None
    assert len(customer) == 64
    assert "(1,000 characters)" in customer
    assert ledger.tasks.find("instruct-" + "0" * 40) is None


def _texts(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str]]:
    for name, each in model.model_fields.items():
        if each.annotation is str and name in ("reason", "recipe", "problem", "message"):
            yield model, name


SAID = [
    pair
    for model in (
        messages.OfferAnswer,
        messages.StartAnswer,
        messages.AttemptStatus,
        messages.Outcome,
        messages.Refusal,
    )
    for pair in _texts(model)
]
FILLED: dict[type[BaseModel], dict[str, object]] = {
    messages.OfferAnswer: {"accepted": True},
    messages.StartAnswer: {"accepted": True},
    messages.AttemptStatus: {"task_id": TASK, "phase": "training", "recipe": "lora", "fraction": 0.5},
    messages.Outcome: {"task_id": TASK, "state": "failed", "reason": "so"},
    messages.Refusal: {"code": "no", "message": "no"},
}


def test_all_words_of_all_messages_are_looked_at() -> None:
    assert {name for _, name in SAID} == {"reason", "recipe", "problem", "message"}
    assert len(SAID) == 7


@pytest.mark.parametrize(("model", "name"), SAID, ids=[f"{model.__name__}.{name}" for model, name in SAID])
@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE)
def test_words_in_messages_are_made_harmless(model: type[BaseModel], name: str, words: str) -> None:
    said = getattr(model.model_validate({**FILLED[model], name: words}), name)
    assert said.isprintable()
    if model is not messages.Refusal:
        with pytest.raises(ValidationError):
            model.model_validate({**FILLED[model], name: "x" * 1_000_000})
