"""The miner's page: jobs, curves, results with reasons, pay; strangers' words are text, and no other site reads it."""

from __future__ import annotations

import asyncio
import html
import re
import socket
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient

from gradients.axon.messages import AttemptStatus, Outcome
from gradients.axon.ports import free_ports
from gradients.chain.view import ChainView
from gradients.conditions.state import Conditions
from gradients.doctor.findings import Finding
from gradients.domain.task import Hotkey
from gradients.testing.axons import keypair_of
from gradients.web.curves import Curve
from miner.journal import Journal, Record
from miner.page.app import page_app
from miner.page.figures import MOST_RESULTS, Behind
from miner.page.gpus import Gpu, gpus, listed
from tests.unit.miner.fakes import OTHER_TASK, TASK, FakeChain, FakeClock, FakeTrainer, neuron, start, write_base
from tests.unit.miner.test_daemon import HOTKEY, accept, daemon, run_until

EVIL = "<img src=x onerror=alert(1)>\x1b[31m"
VALIDATOR = Hotkey(keypair_of("validator").ss58_address)


def behind(folder: Path, *, registered: bool = True, read: bool = True, found: tuple[Finding, ...] = ()) -> Behind:
    """What a page of a miner with an empty journal looks at."""
    earning = replace(neuron(HOTKEY, None), incentive=0.125, emission_alpha=1.5)
    view = ChainView(FakeChain(HOTKEY, (earning,) if registered else ()), FakeClock())
    if read:
        asyncio.run(view.start())
    journal, curves = Journal(folder / "tasks"), dict[str, Curve]()

    def status(task_id: str) -> AttemptStatus:
        return AttemptStatus(
            task_id=task_id, phase="training", recipe="lora", fraction=0.5, step=70, loss=2.125, problem=EVIL
        )

    conditions = Conditions()
    conditions.update("chain", found)
    return Behind(journal, view, HOTKEY, "lora-tuned", status, curves, conditions)


def seen(shown: Behind, *, host: str = "127.0.0.1") -> httpx.Response:
    answer: httpx.Response = TestClient(page_app(shown, host="127.0.0.1"), base_url=f"http://{host}:8093").get("/")  # type: ignore[assignment]
    return answer


def record(task_id: str, **changes: object) -> Record:
    made = Record(start=start(task_id), validator=VALIDATOR, accepted_at=1.0, salt="5a" * 32)
    return made.model_copy(update=changes)


def test_a_task_in_work_shows_how_far_it_is_its_curve_and_the_blocks_that_are_left(tmp_path: Path) -> None:
    shown = behind(tmp_path)
    begun = shown.journal.write(record(TASK))
    curve = Curve()
    for step in range(70):
        curve.add(step, 4.0 - step / 50)
    shown = replace(shown, curves={TASK: curve})
    text = seen(shown).text
    left = begun.start.deadline_block - shown.view.block
    assert f"50%, step 70, training loss 2.125; {left} blocks to the deadline" in re.sub(r"\s+", " ", text).replace(
        "</progress> ", ""
    )
    assert 'data-from="curve-' in text
    assert "3.98" in text
    assert begun.salt not in text


def test_results_stand_with_reasons_in_full_and_pay_as_the_chain_has_it(tmp_path: Path) -> None:
    shown, reason = behind(tmp_path), "worse than three others, " * 30
    said = Outcome(
        task_id=TASK,
        state="scored",
        base_loss=3.0,
        loss=2.0,
        gain=0.333,
        rank=2,
        ranked=4,
        chance=0.25,
        share=None,
        reason=reason,
    )
    shown.journal.write(record(TASK, manifest="{}", committed_at_block=20, outcome=said))
    shown.journal.write(record(OTHER_TASK, failure="job_failed: no memory", accepted_at=2.0))
    text = seen(shown).text
    assert reason.strip() in text
    assert all(
        each in text for each in ("2 of 4", "+33.3%", "25.0%", "not yet", "job_failed: no memory", "12.50%", "1.5000")
    )
    assert text.index(OTHER_TASK) < text.index(TASK)  # the newest first


def test_what_validators_and_trainers_say_is_text(tmp_path: Path) -> None:
    shown = behind(tmp_path)
    shown.journal.write(record(TASK))
    text = seen(shown).text
    assert "<img" not in text
    assert "\x1b" not in text
    assert html.escape("<img src=x onerror=alert(1)>\\x1b[31m") in text


@pytest.mark.parametrize(
    ("registered", "read", "said"), [(False, True, "not registered"), (True, False, "not been read")]
)
def test_a_miner_that_earns_nothing_is_told_why(tmp_path: Path, registered: bool, read: bool, said: str) -> None:
    assert said in seen(behind(tmp_path, registered=registered, read=read)).text


def test_what_keeps_a_miner_from_its_work_stands_above_everything_with_what_to_do_about_it(tmp_path: Path) -> None:
    frozen = Finding("chain", "missing", "block 70 came 300 s ago, and none since", "see whether the node runs <b>")
    short = Finding("folder", "note", "9 GiB free", "make room")
    text = seen(behind(tmp_path, found=(frozen, short))).text
    told = "<strong>chain</strong>: block 70 came 300 s ago, and none since<br>What to do: see whether the node runs &lt;b&gt;"
    assert text.count('class="message bad"') == 1
    assert text.index(told) < text.index("<h2>In work</h2>")
    table = text[text.index("<h2>What the miner needs</h2>") :]
    assert re.findall(r'badge (good|busy|bad)">([^<]+)<', table) == [("bad", "missing"), ("busy", "could be better")]
    assert "make room" in table
    assert "Nothing was looked at yet" in seen(behind(tmp_path)).text


def test_a_page_on_loopback_is_read_under_no_name_of_another_site(tmp_path: Path) -> None:
    shown = behind(tmp_path)
    assert seen(shown, host="localhost").status_code == 200
    assert seen(shown, host="rebound.example").status_code == 400
    everywhere = TestClient(page_app(shown, host="0.0.0.0"), base_url="http://miner.example")
    assert everywhere.get("/").status_code == 200


def test_the_newest_results_are_enough(tmp_path: Path) -> None:
    shown = behind(tmp_path)
    for number in range(MOST_RESULTS + 5):
        shown.journal.write(record(f"instruct-{number:012x}", failure="late", accepted_at=float(number)))
    text = seen(shown).text
    assert text.count("instruct-") == MOST_RESULTS
    assert f"instruct-{4:012x}" not in text


def test_a_port_that_is_taken_costs_the_page_and_nothing_else(tmp_path: Path) -> None:
    write_base(tmp_path / "bases" / "tiny")
    accept(tmp_path, TASK)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        page = {"page": {"port": taken.getsockname()[1]}}
        made = daemon(tmp_path, FakeChain(HOTKEY, (neuron(HOTKEY, None),)), FakeTrainer(), **page)
        made.page = page_app(behind(tmp_path), host="127.0.0.1")
        run_until(made, phase="committed")


def test_a_running_miner_serves_its_page(tmp_path: Path) -> None:
    write_base(tmp_path / "bases" / "tiny")
    accept(tmp_path, TASK)
    (port,) = free_ports("127.0.0.1", 1)
    chain, answers = FakeChain(HOTKEY, (neuron(HOTKEY, None),)), list[int]()
    made = daemon(tmp_path, chain, FakeTrainer(), page={"port": port})
    made.page = page_app(behind(tmp_path), host="127.0.0.1")

    async def main() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(made.run(stop))
        async with asyncio.timeout(120), httpx.AsyncClient(trust_env=False) as client:
            while not answers:
                assert not running.done(), running.exception()
                try:
                    answers.append((await client.get(f"http://127.0.0.1:{port}/")).status_code)
                except httpx.TransportError:
                    await asyncio.sleep(0.02)
        stop.set()
        await running

    asyncio.run(main())
    assert answers == [200]


def test_gpus_are_read_from_the_drivers_listing_and_what_it_does_not_know_is_left_open() -> None:
    text = "0, NVIDIA H100 80GB HBM3, 97, 40960, 81559, 64, 612.35\n1, Odd, [N/A], [N/A], 1024, [N/A], [N/A]\n"
    assert listed(text) == [
        Gpu("0", "NVIDIA H100 80GB HBM3", 0.97, 40960 * 2**20, 81559 * 2**20, 64.0, 612.35),
        Gpu("1", "Odd", None, None, 1024 * 2**20, None, None),
    ]


def test_a_machine_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == "There is no NVIDIA driver here; training runs on the CPU"
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho broken >&2\nexit 9\n")
    tool.chmod(0o755)
    assert str(gpus()).startswith("nvidia-smi does not answer")
