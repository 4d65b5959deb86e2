"""Bases that only the offering validator has: from its axon, by digest, and nothing else than was offered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from gradients.axon.auth import MetagraphPolicy
from gradients.axon.client import AxonClient
from gradients.axon.messages import BaseListing
from gradients.axon.serve import serving
from gradients.axon.server import signed_app
from gradients.bases.bases import BaseInfo, BaseModels, base_in, files_of
from gradients.domain.task import Blob, Hotkey, Parent, Prepared, TaskId
from gradients.errors import GradientsError, OutsideError
from gradients.repo.store import ContentStore
from gradients.testing.axons import keypair_of, warm_nonces
from gradients.testing.clock import HandClock
from gradients.testing.tiny_models import write_tiny_llama
from miner.bases import KnownBases
from miner.given_bases import UNUSED_SECONDS, GivenBases, sweep_given
from tests.unit.validator.market import HOST, PREPARED, StandIn, Subnet, opened
from validator.axon_app import add_data_route
from validator.ledger import Ledger

BEFORE = TaskId("instruct-00000000000a")
NAME = f"task:{BEFORE}"


@dataclass
class Validator:
    """One that serves a base, and what it says of it."""

    store: ContentStore
    base: BaseInfo
    prepared: Prepared

    def spoil(self, path: str) -> Callable[[], None]:
        """Change a byte of a file; what mends it."""
        file = self.store.path(dict(self.parent.files)[path].sha256)
        content = file.read_bytes()
        file.chmod(0o600)
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

        def mend() -> None:
            file.write_bytes(content)

        return mend

    @property
    def parent(self) -> Parent:
        assert self.prepared.parent is not None
        return self.prepared.parent


@pytest.fixture
def validator(tmp_path: Path) -> Validator:
    store = ContentStore(tmp_path / "blobs")
    base = base_in(NAME, write_tiny_llama(tmp_path / "made", seed=4))
    files = {path: Blob(store.add_file(file), file.stat().st_size) for path, file in files_of(base.folder).items()}
    parent = Parent(BEFORE, Hotkey("5Alice"), "f" * 64, "a" * 64, tuple(files.items()))
    prepared = replace(PREPARED, base_digest=base.digest, base_parameters=base.parameters, parent=parent)
    return Validator(store, base, prepared)


def _as_miner(
    validator: Validator,
    folder: Path,
    ask: Callable[[KnownBases, str], Coroutine[None, None, None]],
    *,
    prepared: Prepared | None = None,
) -> BaseModels:
    """Run `ask` with a miner's bases and the validator's hotkey; the bases."""
    models = BaseModels(shipped=folder / "shipped", cache=folder / "cache")
    ledger = Ledger.open(f"sqlite:///{folder}/validator.db", HandClock())
    opened(ledger, prepared=prepared or validator.prepared)

    async def scenario() -> None:
        subnet = Subnet(HandClock())
        await subnet.start(StandIn("alice"))
        app = signed_app(keypair=subnet.keypair, policy=MetagraphPolicy(subnet.view.metagraph), nonces=warm_nonces())
        add_data_route(app, ledger=ledger, store=validator.store)
        client = AxonClient(keypair_of("alice"), allow_private=True)
        async with serving(app, HOST, 0) as address:
            await subnet.gateway.publish_axon(address)
            await subnet.view.start()
            known = KnownBases(models, GivenBases(client, subnet.view, models.cache), answer_seconds=300)
            await ask(known, subnet.gateway.hotkey)
            await client.close()

    asyncio.run(scenario())
    ledger.engine.dispose()
    return models


async def _found(known: KnownBases, validator: str, offered: Prepared) -> BaseInfo:
    return await known.find(NAME, parameters=offered.base_parameters, digest=offered.base_digest, validator=validator)


async def _refused(known: KnownBases, validator: str, offered: Prepared) -> GradientsError:
    with pytest.raises(GradientsError) as caught:
        await _found(known, validator, offered)
    return caught.value


def test_the_base_of_an_offer_is_kept_by_its_digest_as_the_validator_has_it(
    validator: Validator, tmp_path: Path
) -> None:
    async def ask(known: KnownBases, hotkey: str) -> None:
        base = await _found(known, hotkey, validator.prepared)
        assert (base.digest, base.parameters) == (validator.base.digest, validator.base.parameters)

    models = _as_miner(validator, tmp_path, ask)
    name = f"{NAME}@{validator.base.digest}"
    assert [each.name for each in models.cache.iterdir() if each.is_dir()] == [name]
    assert models.resolve(name).digest == validator.base.digest
    kept = {path: file.read_bytes() for path, file in files_of(models.cache / name).items()}
    assert kept == {path: file.read_bytes() for path, file in files_of(validator.base.folder).items()}


def test_bytes_that_are_not_the_announced_ones_become_no_base_and_the_next_offer_goes_on(
    validator: Validator, tmp_path: Path
) -> None:
    async def ask(known: KnownBases, hotkey: str) -> None:
        mend = validator.spoil("model.safetensors")
        error = await _refused(known, hotkey, validator.prepared)
        assert (type(error), error.code) == (OutsideError, "base_not_given")
        assert not known.models.is_here(f"{NAME}@{validator.base.digest}")
        mend()
        assert (await _found(known, hotkey, validator.prepared)).digest == validator.base.digest

    _as_miner(validator, tmp_path, ask)


def test_a_listing_of_another_base_is_not_fetched(validator: Validator, tmp_path: Path) -> None:
    fewer = replace(validator.parent, files=validator.parent.files[1:])
    lies = replace(validator.prepared, parent=fewer)

    async def ask(known: KnownBases, hotkey: str) -> None:
        assert (await _refused(known, hotkey, lies)).code == "base_not_given"

    assert not _as_miner(validator, tmp_path, ask, prepared=lies).cache.exists()


def test_a_base_that_is_larger_than_its_weights_account_for_is_not_fetched(
    validator: Validator, tmp_path: Path
) -> None:
    files = tuple((path, replace(blob, size_bytes=2**31)) for path, blob in validator.parent.files)
    lies = replace(validator.prepared, parent=replace(validator.parent, files=files))

    async def ask(known: KnownBases, hotkey: str) -> None:
        assert "at most" in (await _refused(known, hotkey, lies)).message

    _as_miner(validator, tmp_path, ask, prepared=lies)


def test_a_base_for_which_there_is_no_room_is_declined(validator: Validator, tmp_path: Path) -> None:
    files = tuple((path, replace(blob, size_bytes=2**48)) for path, blob in validator.parent.files)
    large = replace(validator.prepared, base_parameters=2**50, parent=replace(validator.parent, files=files))

    async def ask(known: KnownBases, hotkey: str) -> None:
        assert (await _refused(known, hotkey, large)).code == "disk_full"

    _as_miner(validator, tmp_path, ask, prepared=large)


def test_a_base_that_no_running_task_goes_on_from_is_not_there(validator: Validator, tmp_path: Path) -> None:
    async def ask(known: KnownBases, hotkey: str) -> None:
        other = replace(validator.prepared, base_digest="c" * 64)
        assert (await _refused(known, hotkey, other)).code == "not_found"

    _as_miner(validator, tmp_path, ask)


@pytest.mark.parametrize(
    "path", ["../config.json", "/etc/passwd.json", "a/b/c.json", ".hidden.json", "modeling.py", "model.bin", ""]
)
def test_no_listing_names_places_outside_or_files_that_are_not_data(path: str) -> None:
    blob = {"sha256": "a" * 64, "size_bytes": 1}
    with pytest.raises(ValidationError):
        BaseListing.model_validate({"base_digest": "b" * 64, "files": {path: blob}})


def test_what_validators_have_given_goes_after_a_day_without_need_and_nothing_else_does(tmp_path: Path) -> None:
    old, needed, young = (f"{NAME}@{letter * 64}" for letter in "abc")
    for name in (old, needed, young, "org--name@main"):
        write_tiny_llama(tmp_path / name)
        if name != young:
            os.utime(tmp_path / name, (1.0, 1.0))
    now = (tmp_path / young).stat().st_mtime + UNUSED_SECONDS / 2
    assert sweep_given(tmp_path, needed=[needed], now=now) == [old]
    assert {each.name for each in tmp_path.iterdir() if each.is_dir()} == {needed, young, "org--name@main"}
