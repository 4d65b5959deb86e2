"""Bases for offers: those that are here at once, the others by one fetch in the background."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from gradients.bases.bases import BaseModels
from gradients.errors import ModelUnknown, OutsideError
from gradients.testing.loopback_hub import loopback_hub
from gradients.testing.loopback_site import Page, Request, Site, loopback_site
from miner.bases import MOST_FETCHES, KnownBases
from miner.settings import MinerSettings
from tests.unit.miner.fakes import write_base

PARAMETERS = 100  # what write_base writes


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BaseModels:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    write_base(tmp_path / "bases" / "tiny")
    return BaseModels(shipped=tmp_path / "bases", cache=tmp_path / "cache")


@dataclass
class SilentHub:
    """A hub that answers nobody before it is told that all has ended."""

    site: Site
    ended: threading.Event


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentHub]:
    ended = threading.Event()

    def answer(_: Request) -> Page:
        ended.wait(300)
        return Page(status=404, headers={"X-Error-Code": "RepoNotFound"})

    with loopback_site(answer) as site:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        yield SilentHub(site, ended)
        ended.set()


def test_a_base_that_is_not_here_is_there_for_a_later_offer(
    models: BaseModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models.shipped / "tiny", tmp_path / "hub" / "models" / "org" / "tiny")

    async def later(known: KnownBases) -> str:
        with pytest.raises(OutsideError, match="it is being fetched"):
            await known.find("org/tiny", parameters=PARAMETERS)
        known.answer_seconds = 300
        return (await known.find("org/tiny", parameters=PARAMETERS)).digest

    with loopback_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        assert asyncio.run(later(KnownBases(models, answer_seconds=0.0))) == models.resolve("tiny").digest


def test_what_a_hub_does_not_have_is_said_to_the_next_who_asks(
    models: BaseModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(known: KnownBases) -> None:
        with pytest.raises(OutsideError):
            await known.find("org/none", parameters=PARAMETERS)
        known.answer_seconds = 300
        with pytest.raises(ModelUnknown):
            await known.find("org/none", parameters=PARAMETERS)
        assert known.searches == {}  # whoever asks after that begins anew

    (tmp_path / "hub").mkdir()
    with loopback_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        asyncio.run(ask(KnownBases(models, answer_seconds=0.0)))


def test_one_fetch_serves_all_who_ask_and_keeps_nobody_waiting(models: BaseModels, silent_hub: SilentHub) -> None:
    async def many(known: KnownBases) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        for _ in range(20):
            with pytest.raises(OutsideError, match="it is being fetched"):
                await known.find("org/slow", parameters=PARAMETERS)
        known.answer_seconds = 300
        asking = asyncio.create_task(known.find("org/slow", parameters=PARAMETERS))
        async with asyncio.timeout(120):
            assert (await asyncio.to_thread(models.resolve, "tiny")).name == "tiny"  # in the loop's only thread
        silent_hub.ended.set()
        with pytest.raises(ModelUnknown):
            await asking
        assert len(silent_hub.site.requests) == 1

    asyncio.run(many(KnownBases(models, answer_seconds=0.0)))


def test_few_are_fetched_at_once_and_what_is_here_never_waits_for_them(
    models: BaseModels, silent_hub: SilentHub
) -> None:
    async def more_than_that(known: KnownBases) -> None:
        for number in range(MOST_FETCHES + 1):
            said = "it is being fetched" if number < MOST_FETCHES else "others are being fetched: org/slow0"
            with pytest.raises(OutsideError, match=said):
                await known.find(f"org/slow{number}", parameters=PARAMETERS)
        known.answer_seconds = 300
        assert (await known.find("tiny", parameters=PARAMETERS)).name == "tiny"

    asyncio.run(more_than_that(KnownBases(models, answer_seconds=0.0)))


def test_a_base_is_not_downloaded_for_an_offer_that_belittles_it(
    models: BaseModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(models.shipped / "tiny", tmp_path / "hub" / "models" / "org" / "tiny")
    with loopback_hub(tmp_path / "hub") as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        with pytest.raises(ModelUnknown, match="1 weights were announced"):
            asyncio.run(KnownBases(models, answer_seconds=300).find("org/tiny", parameters=1))
    assert not models.is_here("org/tiny")


def test_a_validator_needs_the_chains_own_stake_on_public_networks() -> None:
    assert MinerSettings().least_stake_alpha(is_local=False) == 1000
    assert MinerSettings().least_stake_alpha(is_local=True) == 0
    assert MinerSettings(min_validator_stake_alpha=5).least_stake_alpha(is_local=False) == 5
