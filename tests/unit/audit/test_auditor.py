"""An auditor finds every value of a record that is not what it has to be, names it, and says nothing of an honest one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from gradients.audit.auditor import Auditor, Scope
from gradients.audit.evaluation import Evaluator
from gradients.audit.links import check_link
from gradients.audit.report import Checks, Report
from gradients.domain.json import Json
from gradients.domain.task import TaskState
from gradients.errors import Blame
from gradients.execution.inline import InlineExecutor
from gradients.record.models import Record
from gradients.testing.axons import keypair_of
from tests.unit.audit.cheating import InMemory, Path_, another, changed, leaves, pattern, signed_again
from tests.unit.audit.conftest import Published
from tests.unit.audit.real_market import RealMarket, task_id
from tests.unit.validator.market import found

# What is the validator's word alone: nobody can recompute it. README.md says why each of them is in the record.
TESTIMONY = {
    "entrants.*.code",
    "decided_at_block",
    "landed_at_block",
    "epoch_block",
    "sent.version_key",
}
TESTIMONY_UNDER = ("versions.",)
EVERY_SUBMISSION = 1000


def audit(records: Sequence[Record], published: Published, *, reevaluate: int = 0, sources: bool = True) -> Report:
    source = InMemory(records, published.blobs)
    evaluator = Evaluator(published.bases, InlineExecutor(), source)
    scope = Scope(sources=sources, reevaluate=reevaluate, validator=published.keypair.ss58_address)
    return asyncio.run(Auditor(source, scope, published.gateway, evaluator).run())


def names(report: Report, path: Path_) -> bool:
    """Whether an alarm names the value, or what holds it."""
    wanted = ("body", *map(str, path))
    fields = [tuple(alarm.field.split(".")) for alarm in report.alarms]
    return any(len(field) > 1 and (wanted[: len(field)] == field or field[: len(wanted)] == wanted) for field in fields)


def is_testimony(path: Path_) -> bool:
    name = pattern(path)
    return name in TESTIMONY or name.startswith(TESTIMONY_UNDER)


def cases(published: Published) -> list[tuple[int, Path_, Json]]:
    """(record, path, value): one of every kind of value first, of the newest record that has it, then all others by lot."""
    rng = random.Random(0)
    found = [
        (place, path, value)
        for place, record in enumerate(published.records)
        for path, value in leaves(record.body)
        if not is_testimony(path)
    ]
    rng.shuffle(found)
    first: dict[tuple[str, str], tuple[int, Path_, Json]] = {}
    for place, path, value in sorted(found, key=lambda case: -case[0]):
        first.setdefault((published.records[place].kind, pattern(path)), (place, path, value))
    chosen = list(first.values())
    # What only an older epoch's chain state tells is not looked for: the newest one's stands for it.
    return [*chosen, *(c for c in found if c not in chosen and not pattern(c[1]).startswith("sent.limits"))]


def hidden(published: Published, chosen: Sequence[tuple[int, Path_, Json]]) -> list[str]:
    """Which changes no alarm names."""
    missed = []
    for place, path, value in chosen:
        body = changed(published.records[place], path, another(value))
        chain = signed_again(published.records, place, body, published.keypair)
        again, sources = "measurement" in path, path[0] in ("request", "data")
        report = audit(chain, published, reevaluate=EVERY_SUBMISSION if again else 0, sources=sources)
        if not names(report, path):
            missed.append(f"{place}: {'.'.join(map(str, path))}: {[alarm.field for alarm in report.alarms][:8]}")
    return missed


def test_an_honest_record_raises_no_alarm_and_every_submission_measures_the_same_again(published: Published) -> None:
    report = audit(published.records, published, reevaluate=EVERY_SUBMISSION)
    assert report.as_json() == {"tasks": 3, "epochs": 3, "reevaluated": 12, "alarms": []}


def test_a_task_that_all_miners_gave_up_ends_early_counts_against_them_and_raises_no_alarm(tmp_path: Path) -> None:
    """Its deadline is the block in which they had all said so, and everything is recomputed from there."""
    market = RealMarket(tmp_path)

    async def scenario() -> None:
        await market.subnet.start(*market.miners)
        async with market.subnet.serving(*market.miners):
            await market.task(task_id(0), gives_up=True)
        await market.client.close()

    asyncio.run(scenario())
    [record] = [
        Record.model_validate_json(content)
        for content in market.ledger.records.page(after=0, limit=9, most_bytes=10**9).contents
    ]
    keypair, gateway = market.subnet.keypair, market.subnet.gateway
    report = audit([record], Published((record,), market.store.root, keypair, gateway, market.bases))
    assert report.as_json() == {"tasks": 1, "epochs": 0, "reevaluated": 0, "alarms": []}
    task, results = found(market.ledger, task_id(0)), market.ledger.placings.results(window_blocks=None)
    assert (task.state, task.blocks.deadline_block) == (TaskState.SCORED, task.blocks.started_at_block + 1)
    assert [(each.hotkey, each.points, each.fault) for each in results] == [
        (hotkey, 0.0, Blame.MINER) for hotkey in sorted(miner.hotkey for miner in market.miners)
    ]
    market.ledger.engine.dispose()


def test_a_change_of_every_kind_of_value_is_found_and_named_though_the_validator_signs_it_again(
    published: Published,
) -> None:
    """But for values that only measuring again can find: the slow test has these."""
    kinds = {pattern(path) for _, path, _ in cases(published)}
    chosen = [case for case in cases(published)[: len(kinds)] if "measurement" not in case[1]]
    assert len(chosen) > 60
    assert hidden(published, chosen) == []


@pytest.mark.slow
def test_of_many_changed_values_all_are_found_and_named_though_the_validator_signs_them_again(
    published: Published, request: pytest.FixtureRequest
) -> None:
    """Those of measurements among them, which only measuring again can find."""
    count = int(request.config.getoption("--records"))
    measured = [case for case in cases(published) if "measurement" in case[1]]
    chosen = [*measured[: count // 4], *[case for case in cases(published) if case not in measured]][:count]
    assert len(chosen) == count
    assert hidden(published, chosen) == []


def test_a_change_that_is_not_signed_again_breaks_the_chain(published: Published) -> None:
    rng = random.Random(1)
    records = list(published.records)
    found = [(place, path, value) for place, each in enumerate(records) for path, value in leaves(each.body)]
    for place, path, value in rng.sample(found, 200):
        body = changed(records[place], path, another(value))
        before = records[place - 1] if place else None
        checks = Checks("record")
        check_link(records[place].model_copy(update={"body": body}), before, checks, validator=None)
        assert [alarm.field for alarm in checks.found] == ["sha256"]


def links(records: Sequence[Record], validator: str | None = None) -> list[tuple[int, str]]:
    """(place, field) of all alarms that the chain alone raises."""
    found, before = [], None
    for place, record in enumerate(records):
        checks = Checks("record")
        check_link(record, before, checks, validator=validator)
        found += [(place, alarm.field) for alarm in checks.found]
        before = record
    return found


def test_gaps_repeats_strangers_and_forged_seals_break_the_chain(published: Published) -> None:
    records, us = list(published.records), published.keypair.ss58_address
    stranger = keypair_of("stranger")
    assert links(records, us) == []
    assert links(records[1:]) == [(0, "seq"), (0, "previous_sha256")]
    assert links([records[0], *records[2:]]) == [(1, "seq"), (1, "previous_sha256")]
    assert links([*records[:2], records[1]]) == [(2, "seq"), (2, "previous_sha256")]
    assert {field for _, field in links(signed_again(records, 0, dict(records[0].body), stranger), us)} == {"validator"}
    forged = records[0].model_copy(update={"signature": records[1].signature})
    assert links([forged]) == [(0, "signature")]
    assert links([records[0].model_copy(update={"signature": "0x00"})]) == [(0, "signature")]
    assert links([records[0].model_copy(update={"validator": stranger.ss58_address})], us) == [
        (0, "sha256"),
        (0, "signature"),
        (0, "validator"),
    ]


@pytest.mark.slow
def test_honest_tasks_and_epochs_raise_no_alarm(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    market, count = RealMarket(tmp_path), int(request.config.getoption("--records"))

    async def scenario() -> Report:
        await market.play(count)
        await market.client.close()
        page = market.ledger.records.page(after=0, limit=10 * count, most_bytes=10**9)
        records = [Record.model_validate_json(content) for content in page.contents]
        source = InMemory(records, market.store.root)
        evaluator = Evaluator(market.bases, InlineExecutor(), source)
        scope = Scope(reevaluate=10, validator=market.subnet.gateway.hotkey)
        return await Auditor(source, scope, market.subnet.gateway, evaluator).run()

    report = asyncio.run(scenario())
    market.ledger.engine.dispose()
    assert report.as_json() == {"tasks": count, "epochs": count, "reevaluated": 10, "alarms": []}
