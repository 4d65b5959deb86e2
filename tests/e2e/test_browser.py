"""Every page in a real browser, in states that are made by hand: it fits, can be read, stands still, and is used by keyboard.

What a customer and a miner do on pages of a market that trains is in test_localnet.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect
from safetensors.numpy import save_file

from gradients.axon.messages import AttemptStatus, Outcome
from gradients.bases.bases import BaseModels
from gradients.clock import SystemClock
from gradients.doctor.findings import Finding
from gradients.domain.evaluation import Measurement, Placing
from gradients.domain.submission import BASE_ENTRANT, Submission, SubmissionState
from gradients.domain.task import Hotkey, TaskId, TaskState
from gradients.execution.inline import InlineExecutor
from gradients.repo.manifest import TrainingSummary, describe_folder
from gradients.testing.axons import keypair_of, serving_in_thread
from gradients.testing.tiny_models import write_tiny_llama
from gradients.web.curves import Curve
from miner.page.app import page_app
from miner.page.figures import Behind
from tests.e2e.browsing import Scheme, assert_everybody_can_use, needs_chromium, sign_in, visit
from tests.unit.miner.test_page import behind, record
from tests.unit.validator.market import PREPARED, WINDOW, claimed, request_for
from tests.unit.validator.paging import METRIC, Served, served
from validator.ledger import Ledger
from validator.ledger.placings import add_placings
from validator.ledger.submissions import add_submissions

ALICE, BOB = (Hotkey(keypair_of(name).ss58_address) for name in ("alice", "bob"))
SCORED, RUNNING, FAILED = (TaskId(f"instruct-{number:012x}") for number in (1, 2, 3))
HIDDEN = 48  # of the tiny base
CURVE = [(step, 4.0 - step / 50) for step in range(75)]

pytestmark = [pytest.mark.slow, needs_chromium]


@dataclass(frozen=True)
class Pages:
    """Where pages are, and a customer's key."""

    url: str
    miner_url: str
    key: str

    def all(self) -> list[str]:
        """Those that somebody who has signed in can see."""
        tasks = (f"/tasks/{SCORED}", f"/tasks/{SCORED}/models/{ALICE}", f"/tasks/{RUNNING}")
        forms = ("/new", f"/new?type=instruct&continues={SCORED}", "/account")
        paths = ("/", "/leaderboard", "/tasks", *tasks, *forms, "/nowhere")
        return [*(f"{self.url}{path}" for path in paths), self.miner_url]


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[Pages]:
    write_tiny_llama(tmp_path / "bases" / "tiny")
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", SystemClock())
    bases = BaseModels(shipped=tmp_path / "bases", cache=tmp_path / "cache")
    validator = served(tmp_path, ledger, SystemClock(), executor=InlineExecutor(), bases=bases)
    _train(validator, SCORED)
    _score(validator, SCORED)
    _train(validator, RUNNING)
    shown = page_app(_seen_by_a_miner(tmp_path / "miner"), host="127.0.0.1")
    with (
        serving_in_thread(validator.app, host="127.0.0.1") as address,
        serving_in_thread(shown, host="127.0.0.1") as at,
    ):
        yield Pages(address.url(), at.url("/"), ledger.customers.issue("acme"))
    ledger.engine.dispose()


def _train(pages: Served, task_id: TaskId) -> None:
    """Two miners have a new task, and one says how far it is."""
    ledger = pages.ledger
    ledger.tasks.create(task_id, request_for(), customer="acme", salt=b"s" * 32)
    lease = claimed(ledger, TaskState.DRAFT).lease
    ledger.tasks.advance(lease, came_from=TaskState.DRAFT, to=TaskState.OPEN, prepared=PREPARED)
    lease = claimed(ledger, TaskState.OPEN).lease
    invited = [Submission(task_id, who, uid, SubmissionState.STARTED) for uid, who in enumerate((ALICE, BOB), 1)]
    ledger.tasks.set_window(lease, WINDOW, draw={}, also=lambda session: add_submissions(session, invited))
    ledger.tasks.advance(lease, came_from=TaskState.OPEN, to=TaskState.ASSIGNED)
    word = {"task_id": task_id, "phase": "training", "recipe": "lora-tuned", "fraction": 0.75}
    pages.told.words[ALICE] = AttemptStatus.model_validate({**word, "step": 75, "loss": 2.5})
    pages.told.losses[ALICE] = CURVE


def _score(pages: Served, task_id: TaskId) -> None:
    """The first miner has won, and the second has come to nothing at some length."""
    ledger, repo = pages.ledger, pages.folders.submission(task_id, ALICE)
    repo.mkdir(parents=True)
    (repo / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 64}')
    layer, factor = "base_model.model.model.layers.0.self_attn.q_proj", np.ones((2, HIDDEN), np.float32)
    factors = {f"{layer}.lora_A.weight": factor, f"{layer}.lora_B.weight": np.ascontiguousarray(factor.T)}
    save_file(factors, repo / "adapter_model.safetensors")
    about = describe_folder(
        repo, task_id=task_id, hotkey=ALICE, base_digest="b" * 64, kind="adapter", training=TrainingSummary()
    )
    lease = claimed(ledger, TaskState.ASSIGNED).lease
    ledger.submissions.collected(lease, ALICE, manifest=about.text(), manifest_sha256="f" * 64, committed_at_block=12)
    for entrant, value in ((BASE_ENTRANT, 3.0), (ALICE, 2.0)):
        ledger.submissions.measured(lease, Measurement(entrant, METRIC, value, 0.01, (value,) * 10))
    lost = f"not_revealed: http://127.0.0.2:8091/v1/tasks/{task_id}/manifest has not answered " * 3
    placings = [Placing(ALICE, 1, 1.0, 1.0, "rank 1 of 1"), Placing(BOB, None, 0.0, 0.0, lost)]
    task = ledger.tasks.find(task_id)
    assert task is not None
    ledger.tasks.advance(
        lease,
        came_from=TaskState.ASSIGNED,
        to=TaskState.SCORED,
        also=lambda session: add_placings(session, task, placings, rules_version=2, factor=1.0, now=1.0),
    )


def _seen_by_a_miner(folder: Path) -> Behind:
    """A chain that stands still, a short disk, one task in work, one scored and one lost."""
    frozen = Finding("chain", "missing", "block 70 came 300 s ago, and none since", f"see whether {'x' * 80} runs")
    shown = behind(folder, found=(frozen, Finding("folder", "note", "9 GiB free", "make room")))
    said = Outcome(
        task_id=SCORED,
        state="scored",
        base_loss=3.0,
        loss=2.0,
        gain=0.333,
        rank=2,
        ranked=4,
        chance=0.25,
        reason="rank 2 of 4, 33.33% better than the base, " * 5,
    )
    shown.journal.write(record(RUNNING))
    shown.journal.write(record(SCORED, manifest="{}", committed_at_block=20, outcome=said))
    shown.journal.write(record(FAILED, failure="job_failed: no memory " * 10))
    curve = Curve()
    for step, loss in CURVE:
        curve.add(step, loss)
    return replace(shown, curves={RUNNING: curve})


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_everybody_can_use_every_page(pages: Pages, browser: Browser, size: str, scheme: Scheme) -> None:
    """Each page is loaded in one scheme and then seen in the other."""
    problems: list[str] = []
    page = visit(browser, problems, size=size, scheme=scheme)
    page.goto(f"{pages.url}/sign-in")
    assert_everybody_can_use(page, scheme=scheme)
    page.get_by_label("API key").fill("gr_nobody")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("This key opens nothing here")
    assert_everybody_can_use(page, scheme=scheme)
    sign_in(page, pages.url, pages.key)
    for url in pages.all():
        page.goto(url)
        assert_everybody_can_use(page, scheme=scheme)
    assert [problem for problem in problems if "401" not in problem and "404" not in problem] == []  # asked for above


def test_the_head_of_a_page_is_skipped_by_keyboard(pages: Pages, browser: Browser) -> None:
    page = visit(browser, [])
    for url in (f"{pages.url}/tasks", pages.miner_url):
        page.goto(url)
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text("Skip to the content")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.locator("main :focus")).to_have_count(1)
