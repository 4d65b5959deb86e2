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
from validator.api.resumable import MOST_FINISHED, ResumableUploads, Standing
from validator.api.uploads import Uploads
from validator.ledger import Ledger
from validator.ledger.uploads import UnfinishedUpload
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


def begun(resumable: ResumableUploads, size: int = 6, *, by: str = "acme") -> str:
    """The id of a new upload in pieces."""
    standing = asyncio.run(resumable.begin(by, file_name="rows.jsonl", size_bytes=size, sha256=None))
    return standing.upload.id


def written(resumable: ResumableUploads, upload_id: str, body: AsyncIterator[bytes]) -> Standing:
    return asyncio.run(resumable.receive("acme", upload_id, body, offset=0, checksum=None))


def test_an_upload_that_is_written_to_is_never_swept(ledger: Ledger, clock: HandClock, tmp_path: Path) -> None:
    resumable = ResumableUploads(uploads := uploads_of(ledger, tmp_path))

    async def body() -> AsyncIterator[bytes]:
        yield b"abc"
        clock.time += uploads.unfinished_seconds + 1
        assert await asyncio.to_thread(uploads.drop_unfinished) == 0
        yield b"def"

    standing = written(resumable, begun(resumable), body())
    assert (uploads.folder / str(standing.upload.name)).read_bytes() == b"abcdef"


def test_an_upload_says_each_minute_that_bytes_still_come(ledger: Ledger, clock: HandClock, tmp_path: Path) -> None:
    resumable = ResumableUploads(uploads_of(ledger, tmp_path))
    begin, told = clock.now(), list[float]()
    upload_id = begun(resumable)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            clock.time += 40
            yield b"ab"
            [each] = ledger.uploads.unfinished.of("acme")
            told.append(each.touched_at - begin)

    written(resumable, upload_id, body())
    assert told == [40, 40, 120]


def test_a_dry_run_moves_no_file(ledger: Ledger, clock: HandClock, tmp_path: Path) -> None:
    """One upload was whole when the validator was killed, one lacks bytes."""
    resumable = ResumableUploads(uploads := uploads_of(ledger, tmp_path))
    whole, part = begun(resumable, 3), begun(resumable, 50)
    for upload_id in (whole, part):
        (resumable.folder / upload_id).write_bytes(b"abc")
    upload = ledger.uploads.unfinished.find("acme", whole)
    assert upload is not None
    ledger.uploads.unfinished.finish(upload, name := "a" * 64 + ".jsonl")
    clock.time += uploads.unfinished_seconds + 1

    before = set(uploads.folder.rglob("*"))
    assert uploads.drop_unfinished(only_look=True) == 3
    assert set(uploads.folder.rglob("*")) == before
    assert uploads.drop_unfinished() == 3
    assert {file for file in uploads.folder.rglob("*") if file.is_file()} == {uploads.folder / name}


def test_of_whole_uploads_the_newest_are_listed(ledger: Ledger, clock: HandClock, tmp_path: Path) -> None:
    resumable, unfinished = ResumableUploads(uploads_of(ledger, tmp_path)), ledger.uploads.unfinished
    slow = begun(resumable, 3)  # is whole after all others
    for number in range(MOST_FINISHED):
        clock.time += 1
        now = clock.now()
        upload = UnfinishedUpload(f"{number:032x}", "acme", "rows.jsonl", 0, None, now, now, None)
        assert unfinished.begin(upload, most_bytes=QUOTA)
        unfinished.finish(upload, f"{number:064x}.jsonl")
    (resumable.folder / f"{1:032x}").touch()  # the validator was killed before this one had its place

    async def body() -> AsyncIterator[bytes]:
        yield b"abc"

    for upload_id in (begun(resumable, 3), slow):
        clock.time += 1
        written(resumable, upload_id, body())
    listed = {each.upload.id for each in asyncio.run(resumable.listed("acme"))}
    assert slow in listed
    assert len(listed) == MOST_FINISHED + 1
    assert {f"{number:032x}" for number in range(3)} - listed == {f"{0:032x}"}
    assert ledger.uploads.is_claimed(f"{0:064x}.jsonl")


def test_a_whole_upload_is_listed_no_longer_than_its_file_stays(
    ledger: Ledger, clock: HandClock, tmp_path: Path
) -> None:
    resumable, begin = ResumableUploads(uploads_of(ledger, tmp_path)), clock.now()

    async def body() -> AsyncIterator[bytes]:
        yield b"abcdef"

    whole = written(resumable, begun(resumable), body()).upload
    clock.time += 100
    part = begun(resumable)
    assert asyncio.run(resumable.look("acme", whole.id)).upload.name == whole.name  # of use now
    ledger.uploads.drop(unused_since=begin + 50)
    assert [each.upload.id for each in asyncio.run(resumable.listed("acme"))] == [part, whole.id]
    ledger.uploads.drop(unused_since=begin + 200)
    assert [each.upload.id for each in asyncio.run(resumable.listed("acme"))] == [part]


def test_uploads_in_pieces_are_kept_on_every_database(database_url: str) -> None:
    """Also by names that hold what a database does not take."""
    clock = HandClock()
    ledger = Ledger.open(database_url, clock)
    unfinished, names = ledger.uploads.unfinished, ("a\x00b.jsonl", "\ud800.jsonl", "c" * 250 + ".jsonl")
    for number, file_name in enumerate(names):
        now, sha256 = clock.now() + number, f"{number:064x}"
        upload = UnfinishedUpload(f"{number:032x}", "acme", file_name, 5, sha256, now, now, None)
        assert unfinished.begin(upload, most_bytes=QUOTA)
    assert unfinished.count("acme") == 3
    for number in (0, 1):
        [upload] = unfinished.of("acme", sha256=f"{number:064x}")
        clock.time += 1
        unfinished.finish(upload, f"{number}.jsonl")
    assert [each.name for each in unfinished.of("acme")] == [None, "1.jsonl", "0.jsonl"]
    assert [each.name for each in unfinished.finished("acme", but_newest=1)] == ["0.jsonl"]
    assert (unfinished.count("acme"), unfinished.count("globex")) == (1, 0)

    assert not unfinished.drop(f"{2:032x}", untouched_since=clock.now())
    assert unfinished.drop(f"{2:032x}", untouched_since=clock.now() + 1)
    assert not unfinished.drop(f"{2:032x}")
    clock.time += 100
    assert ledger.uploads.use("acme", "1.jsonl")
    ledger.uploads.drop(unused_since=clock.now() - 50)
    assert [each.name for each in unfinished.of("acme")] == ["1.jsonl"]
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
