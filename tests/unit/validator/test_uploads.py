"""Whose uploads are whose and for how long, and where paths of this machine may be named. The rest is tried over HTTP in tests/e2e."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gradients.domain.json import Json
from gradients.errors import TaskInvalid
from gradients.files.digest import file_sha256
from gradients.localnet.plan import Options, plan_market, write_settings
from gradients.testing.clock import HandClock
from miner.settings import MinerSettings
from validator.api.uploads import Uploads
from validator.ledger import Ledger
from validator.settings import ValidatorSettings

SPEC: dict[str, Json] = {"type": "instruct", "base": "tiny", "dataset": "/data/rows.jsonl", "hours": 1}


QUOTA = 100


def uploads_of(ledger: Ledger, folder: Path) -> Uploads:
    return Uploads(folder / "uploads", ledger.uploads, max_bytes=60, max_bytes_per_customer=QUOTA)


def sent(uploads: Uploads, content: bytes, *, by: str, modified: float) -> str:
    """The name that an upload was given; its file is as old as `modified` says."""

    async def body() -> AsyncIterator[bytes]:
        yield content

    dataset = asyncio.run(uploads.receive("rows.jsonl", body(), customer=by))
    os.utime(uploads.folder / dataset.removeprefix("upload:"), (modified, modified))
    return dataset


def files_of(uploads: Uploads) -> set[str]:
    return {file.name for file in uploads.folder.iterdir()}


def test_what_nobody_has_named_for_a_while_goes_and_frees_its_owners_room(
    ledger: Ledger, clock: HandClock, tmp_path: Path
) -> None:
    uploads, begin = uploads_of(ledger, tmp_path), clock.now()
    old, named = (sent(uploads, content, by="acme", modified=begin) for content in (b"a" * 50, b"b" * 50))
    clock.time += 100
    assert "dataset" in uploads.resolve({**SPEC, "dataset": named}, customer="acme")

    assert uploads.drop_unused(since=begin + 50, only_look=True) == 50
    assert len(files_of(uploads)) == 2
    assert uploads.drop_unused(since=begin + 50) == 50

    assert files_of(uploads) == {named.removeprefix("upload:")}
    assert ledger.uploads.held_bytes("acme") == 50
    with pytest.raises(TaskInvalid, match="There is no upload"):
        uploads.resolve({**SPEC, "dataset": old}, customer="acme")
    assert sent(uploads, b"a" * 50, by="acme", modified=begin) == old


def test_bytes_stay_while_one_of_their_owners_uses_them(ledger: Ledger, clock: HandClock, tmp_path: Path) -> None:
    uploads, begin = uploads_of(ledger, tmp_path), clock.now()
    dataset = sent(uploads, b"a" * 50, by="acme", modified=begin)
    clock.time += 100
    sent(uploads, b"a" * 50, by="globex", modified=begin)

    assert uploads.drop_unused(since=begin + 50) == 0

    uploads.resolve({**SPEC, "dataset": dataset}, customer="globex")
    with pytest.raises(TaskInvalid, match="There is no upload"):
        uploads.resolve({**SPEC, "dataset": dataset}, customer="acme")


def test_a_kill_while_a_file_is_put_aside_costs_its_owner_nothing(
    ledger: Ledger, clock: HandClock, tmp_path: Path
) -> None:
    uploads, begin = uploads_of(ledger, tmp_path), clock.now()
    name = sent(uploads, b"a" * 50, by="acme", modified=begin).removeprefix("upload:")
    (uploads.folder / name).rename(uploads.folder / f".{name}.leaving")
    (uploads.folder / ".nobodys.jsonl.leaving").write_bytes(b"x" * 7)
    (uploads.folder / ".0123456789abcdef.part").write_bytes(b"y" * 5)
    os.utime(uploads.folder / ".0123456789abcdef.part", (begin, begin))

    clock.time += 1
    assert uploads.drop_unused(since=begin - 1000) == 7  # the part may still grow
    assert files_of(uploads) == {name, ".0123456789abcdef.part"}
    assert file_sha256(uploads.folder / name) == name.removesuffix(".jsonl")
    assert uploads.drop_unused(since=begin + 0.5) == 55
    assert files_of(uploads) == set()


@pytest.mark.parametrize("customers", [("acme",), ("acme", "globex")])
def test_claims_are_kept_and_limited_on_every_database(database_url: str, customers: tuple[str, ...]) -> None:
    clock = HandClock()
    ledger = Ledger.open(database_url, clock)
    for customer in customers:
        assert ledger.uploads.take(customer, "a", size_bytes=60, most_bytes=QUOTA)
        assert ledger.uploads.take(customer, "a", size_bytes=60, most_bytes=QUOTA)
        assert not ledger.uploads.take(customer, "b", size_bytes=60, most_bytes=QUOTA)
        assert ledger.uploads.take(customer, "c", size_bytes=40, most_bytes=QUOTA)
        assert ledger.uploads.held_bytes(customer) == QUOTA
        assert not ledger.uploads.use(customer, "b")
    clock.time += 10
    assert ledger.uploads.use("acme", "a")
    ledger.uploads.drop(unused_since=clock.now() - 5)
    assert [ledger.uploads.held_bytes(customer) for customer in ("acme", "globex")] == [60, 0]
    ledger.engine.dispose()


def test_paths_are_for_networks_whose_operator_says_so(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(TaskInvalid, match="cannot name files"):
        uploads_of(ledger, tmp_path).resolve(SPEC, customer="acme")
    open_handed = Uploads(tmp_path, ledger.uploads, 10, 10, allow_local_paths=True)
    assert open_handed.resolve(SPEC, customer="acme") == SPEC


def test_paths_are_refused_by_default_and_allowed_in_the_market_on_one_machine(tmp_path: Path) -> None:
    assert not ValidatorSettings(folder=tmp_path).allow_local_paths
    assert not MinerSettings(folder=tmp_path).allow_local_paths
    options = Options(
        tmp_path, ("instruct",), tasks=1, miners=1, seed=0, hours=0.1, block_seconds=1, tempo_blocks=20, base=None
    )
    plan = plan_market(options)
    write_settings(plan)
    assert ValidatorSettings.load(plan.validator.settings_file, {}).allow_local_paths
    assert MinerSettings.load(plan.miners[0].settings_file, {}).allow_local_paths
