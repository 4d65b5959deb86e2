"""Looks are taken again and again, each by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gradients.chain.view import ChainView
from gradients.conditions.machine import Accelerator, room
from gradients.conditions.state import Conditions
from gradients.conditions.watch import Look, Watch
from gradients.doctor.findings import Finding
from gradients.errors import ChainUnreachable
from gradients.testing.clock import HandClock
from gradients.testing.fake_chain import FakeChain

PATIENCE_SECONDS = 300.0
LONG_SECONDS = 3600.0


class Stand:
    """A view that a test moves, and what is watched through it."""

    def __init__(self, *looks: Look) -> None:
        self.view = ChainView(FakeChain().gateway("ours"), HandClock())
        self.conditions = Conditions()
        self.watch = Watch(self.view, self.conditions, looks)

    def level(self, name: str) -> str | None:
        return next((each.level for each in self.conditions.findings if each.name == name), None)


def run(stand: Stand, scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await stand.view.start()
        watching = asyncio.create_task(stand.watch.run())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await scenario()
        assert not watching.done()
        watching.cancel()

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 (it looks at somebody else's state)
        await asyncio.sleep(0.005)


def taking(*findings: Finding | Exception, taken: list[int]) -> Callable[[], Awaitable[Sequence[Finding]]]:
    """A look that finds one after the other, and the last one for ever."""

    async def take() -> Sequence[Finding]:
        found = findings[min(len(taken), len(findings) - 1)]
        taken.append(1)
        if isinstance(found, Exception):
            raise found
        return [found]

    return take


def test_a_look_is_taken_with_each_metagraph_and_others_wait_for_their_time() -> None:
    with_metagraph: list[int] = []
    alone: list[int] = []
    stand = Stand(
        Look("subnet", taking(Finding("permit", "ok", ""), taken=with_metagraph), LONG_SECONDS, with_metagraph=True),
        Look("folder", taking(Finding("folder", "ok", ""), taken=alone), LONG_SECONDS),
    )

    async def scenario() -> None:
        for looks in (1, 2, 3):
            await until(lambda looks=looks: len(with_metagraph) == looks)  # type: ignore[misc]
            await stand.view.refresh()
        await until(lambda: len(with_metagraph) == 4)
        assert len(alone) == 1

    run(stand, scenario)


def test_a_look_is_taken_again_though_no_metagraph_comes() -> None:
    taken: list[int] = []
    stand = Stand(Look("chain", taking(Finding("chain", "ok", ""), taken=taken), 0.01, with_metagraph=True))

    async def scenario() -> None:
        await until(lambda: len(taken) >= 3)

    run(stand, scenario)


@pytest.mark.parametrize("error", [ChainUnreachable("No answer"), ZeroDivisionError("a mistake")])
def test_a_look_that_fails_is_told_once_keeps_what_it_found_and_goes_on(error: Exception) -> None:
    taken: list[int] = []
    there = Finding("permit", "ok", "there")
    stand = Stand(Look("subnet", taking(there, error, error, error, there, error, taken=taken), 0.01))

    async def scenario() -> None:
        await until(lambda: len(taken) >= 4)
        assert stand.level("permit") == "ok"
        await until(lambda: len(taken) >= 7)

    with capture_logs() as said:
        run(stand, scenario)
    assert [line["event"] for line in said] == ["look_failed", "look_failed"]  # once for each time that it began


def test_a_look_that_hangs_finds_its_subject_missing_and_holds_up_no_other() -> None:
    taken: list[int] = []
    thaw = asyncio.Event()

    async def hangs() -> Sequence[Finding]:
        await thaw.wait()
        return [Finding("folder", "ok", "20 GiB free")]

    stand = Stand(
        Look("folder", hangs, LONG_SECONDS, patience_seconds=0.02),
        Look("chain", taking(Finding("chain", "ok", ""), taken=taken), 0.01),
    )

    async def scenario() -> None:
        await until(lambda: stand.level("folder") == "missing" and len(taken) >= 3)
        assert "0.02 s" in stand.conditions.against("folder")
        thaw.set()
        await until(lambda: stand.level("folder") == "ok")

    run(stand, scenario)


def test_a_gpu_is_missed_when_it_was_there_before() -> None:
    broken = Finding("gpu", "missing", "nvidia-smi: unable to determine the device handle", "repair the NVIDIA driver")
    findings = iter([broken, Finding("gpu", "ok", "a card"), broken, Finding("gpu", "note", "none; 2 CPU cores")])
    gpu = Accelerator(lambda: next(findings))

    async def levels() -> list[tuple[str, str]]:
        return [(found.level, found.found) for _ in range(4) for found in await gpu.look()]

    first, second, third, fourth = asyncio.run(levels())
    assert (first[0], second[0]) == ("note", "ok")
    assert third == ("missing", f"it worked before; now: {broken.found}")
    assert fourth == ("missing", "it worked before; now: none; 2 CPU cores")


def test_a_folder_that_is_none_is_missing(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    [there], [gone] = asyncio.run(room(tmp_path)), asyncio.run(room(tmp_path / "taken"))
    assert (there.level in ("ok", "note"), gone.level) == (True, "missing")
