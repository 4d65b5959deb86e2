"""A real browser on the pages: sign in, upload, estimate, post, follow, compare, vote, download; with real workers, the chain in memory."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from safetensors.numpy import save

from gradients.axon.messages import AttemptStatus
from gradients.bases.bases import BaseModels
from gradients.clock import SystemClock
from gradients.domain.evaluation import Measurement, Placing
from gradients.domain.submission import BASE_ENTRANT, Submission, SubmissionState
from gradients.domain.task import Hotkey, TaskId, TaskState
from gradients.execution.process import ProcessExecutor
from gradients.repo.manifest import TrainingSummary, describe_folder
from gradients.testing.axons import keypair_of, serving_in_thread
from gradients.testing.tiny_models import write_tiny_llama
from tests.unit.validator.market import PREPARED, WINDOW, claimed, request_for
from tests.unit.validator.paging import METRIC, Served, served
from validator.ledger import Ledger
from validator.ledger.placings import add_placings
from validator.ledger.submissions import add_submissions

ALICE, BOB = (Hotkey(keypair_of(name).ss58_address) for name in ("alice", "bob"))
CHROMIUM = shutil.which("chromium")
HIDDEN = 48  # of the tiny base
SECONDS = 120.0  # for what a worker does on a busy machine
SIZES = {"desktop": (1200, 900), "phone": (390, 844)}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="scripts/services start"),
]


@dataclass
class Market:
    """Pages over HTTP, and the steps of a task by hand."""

    pages: Served
    url: str
    key: str

    def train(self, task_id: TaskId) -> None:
        """Two miners have the task, and one says how far it is."""
        ledger = self.pages.ledger
        lease = claimed(ledger, TaskState.DRAFT).lease
        ledger.tasks.advance(lease, came_from=TaskState.DRAFT, to=TaskState.OPEN, prepared=PREPARED)
        lease = claimed(ledger, TaskState.OPEN).lease
        invited = [Submission(task_id, who, uid, SubmissionState.STARTED) for uid, who in enumerate((ALICE, BOB), 1)]
        ledger.tasks.set_window(lease, WINDOW, draw={}, also=lambda session: add_submissions(session, invited))
        ledger.tasks.advance(lease, came_from=TaskState.OPEN, to=TaskState.ASSIGNED)
        self.say(task_id, fraction=0.25)

    def say(self, task_id: TaskId, *, fraction: float) -> None:
        """What the first miner says of its training."""
        word = {"task_id": task_id, "phase": "training", "recipe": "lora-tuned", "fraction": fraction}
        self.pages.told.words[ALICE] = AttemptStatus.model_validate({**word, "step": int(100 * fraction), "loss": 2.0})
        self.pages.told.losses[ALICE] = [(step, 4.0 - step / 50) for step in range(int(100 * fraction))]

    def score(self, task_id: TaskId) -> bytes:
        """The first miner has won; the bytes of its adapter."""
        ledger = self.pages.ledger
        repo = self.pages.folders.submission(task_id, ALICE)
        repo.mkdir(parents=True)
        (repo / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 64}')
        layer = "base_model.model.model.layers.0.self_attn.q_proj"
        factor = np.random.default_rng(0).standard_normal((2, HIDDEN)).astype(np.float32)
        weights: bytes = save({f"{layer}.lora_A.weight": factor, f"{layer}.lora_B.weight": factor.T.copy()})
        (repo / "adapter_model.safetensors").write_bytes(weights)
        about = describe_folder(
            repo, task_id=task_id, hotkey=ALICE, base_digest="b" * 64, kind="adapter", training=TrainingSummary()
        )
        lease = claimed(ledger, TaskState.ASSIGNED).lease
        ledger.submissions.collected(
            lease, ALICE, manifest=about.text(), manifest_sha256="f" * 64, committed_at_block=12
        )
        for entrant, value in ((BASE_ENTRANT, 3.0), (ALICE, 2.0)):
            ledger.submissions.measured(lease, Measurement(entrant, METRIC, value, 0.01, (value,) * 10))
        placings = [Placing(ALICE, 1, 1.0, 1.0, "rank 1 of 1"), Placing(BOB, None, 0.0, 0.0, "not_revealed: no answer")]
        task = ledger.tasks.find(task_id)
        assert task is not None
        ledger.tasks.advance(
            lease,
            came_from=TaskState.ASSIGNED,
            to=TaskState.SCORED,
            also=lambda session: add_placings(session, task, placings, rules_version=2, factor=1.0, now=1.0),
        )
        return weights


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # root has none
        yield browser
        browser.close()


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Market]:
    write_tiny_llama(tmp_path / "bases" / "tiny")
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db", SystemClock())
    bases = BaseModels(shipped=tmp_path / "bases", cache=tmp_path / "cache")
    with ThreadPoolExecutor(1) as beside:  # playwright has a loop in this thread
        made = beside.submit(served, tmp_path, ledger, SystemClock(), executor=ProcessExecutor(), bases=bases)
        pages = made.result()
    with serving_in_thread(pages.app, host="127.0.0.1") as address:
        yield Market(pages, address.url(), ledger.customers.issue("acme"))
    ledger.engine.dispose()


def visit(
    browser: Browser, problems: list[str], *, size: str = "desktop", scheme: Literal["light", "dark"] = "light"
) -> Page:
    """A page of a browser of its own that notes what it complains of, such as a script that the policy refuses."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    return page


def sign_in(page: Page, market: Market) -> None:
    page.goto(f"{market.url}/new")
    page.get_by_label("API key").fill(market.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Post a task")).to_be_visible()


def test_a_customer_goes_from_rows_to_a_model_without_a_terminal(
    browser: Browser, market: Market, tmp_path: Path
) -> None:
    problems: list[str] = []
    page = visit(browser, problems)
    sign_in(page, market)
    rows = tmp_path / "my rows.jsonl"
    rows.write_text("".join(f'{{"question": "What is {n}?", "answer": "It is {n * n}."}}\n' for n in range(100)))
    page.get_by_label("Base model").fill("tiny")
    page.get_by_label("or upload a file:").first.set_input_files(rows)
    expect(page.get_by_label("Data set", exact=True)).to_have_value(
        f"upload:{hashlib.sha256(rows.read_bytes()).hexdigest()}.jsonl"
    )
    page.locator("[name='parameters.columns.instruction']").fill("question")
    page.locator("[name='parameters.columns.output']").fill("answer")
    page.get_by_role("button", name="Estimate").click()
    expect(page.locator("#estimate")).to_contain_text(
        "What is ", timeout=1000 * SECONDS
    )  # a row as it will be trained on
    page.get_by_role("button", name="Take these hours").click(timeout=1000 * SECONDS)
    expect(page.get_by_label("Hours for each miner")).not_to_be_empty()
    page.get_by_role("button", name="Post the task").click()
    page.wait_for_url("**/tasks/instruct-*")
    task_id = TaskId(page.url.rpartition("/")[2])

    market.train(task_id)
    expect(page.get_by_text("25% training")).to_be_visible()  # by itself, without another load
    expect(page.locator(".chart canvas")).to_be_visible()
    market.say(task_id, fraction=0.75)
    expect(page.get_by_text("75% training")).to_be_visible()
    assert page.locator(".chart canvas").count() == 1

    weights = market.score(task_id)
    expect(page.get_by_text("not_revealed: no answer")).to_be_visible()
    page.reload()
    page.get_by_label("Prompt").fill("What is 7?")
    page.get_by_label("Longest answer").fill("8")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer")).to_have_count(2, timeout=1000 * SECONDS)
    assert "uid 1" not in page.locator("#answers").inner_text()  # nobody is named before the vote
    page.get_by_role("button", name="A is best").click()
    expect(page.locator("#vote")).to_contain_text("was the base")
    expect(page.locator("#vote")).to_contain_text("uid 1 (place 1): best in")
    page.get_by_role("button", name="A is best").click()
    expect(page.locator("#vote")).to_contain_text("counted already")

    page.get_by_role("link", name="Files of the winner").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="adapter_model.safetensors").click()
    assert download.value.path().read_bytes() == weights
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    assert [problem for problem in problems if "422" not in problem] == []  # of the second vote


@pytest.mark.parametrize(("size", "scheme", "other"), [("desktop", "light", "dark"), ("phone", "dark", "light")])
def test_pages_fit_every_width_can_be_read_and_used_by_keyboard(
    browser: Browser, market: Market, size: str, scheme: Literal["light", "dark"], other: Literal["light", "dark"]
) -> None:
    """Each page is loaded in one scheme and then seen in the other."""
    problems: list[str] = []
    page = visit(browser, problems, size=size, scheme=scheme)
    sign_in(page, market)
    task = market.pages.ledger.tasks.create(
        TaskId("instruct-0123456789ab"), request_for(), customer="acme", salt=b"s" * 32
    )
    market.train(task.id)
    for path in ("/", "/leaderboard", "/tasks", f"/tasks/{task.id}", "/new", "/account"):
        page.goto(f"{market.url}{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0], path
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text("Skip to the content")
        assert _contrast(page) >= 4.5, path  # WCAG 2.2, AA
        assert float(page.evaluate(SHIFT)) < 0.1, path  # what Web Vitals calls good
        page.emulate_media(color_scheme=other)
        assert _contrast(page) >= 4.5, path
        page.emulate_media(color_scheme=scheme)
    assert problems == []


def _contrast(page: Page) -> float:
    """The lowest contrast of text that is there with what is behind it."""
    return float(page.evaluate(CONTRAST))


SHIFT = """() => new Promise((resolve) => {
  let moved = 0;
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => { moved += entry.hadRecentInput ? 0 : entry.value; }))
    .observe({ type: "layout-shift", buffered: true });
  const soon = () => setTimeout(() => resolve(moved), 500);
  if (document.querySelector("[hx-trigger='every 2s']")) document.addEventListener("htmx:afterSettle", soon, { once: true });
  else soon();
})"""
CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => numbers(colour).slice(0, 3).map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const back = getComputedStyle(each).backgroundColor;
      if ((numbers(back)[3] ?? 1) > 0) return back;
    }
    return "rgb(255, 255, 255)";
  };
  let lowest = 21;
  for (const element of document.querySelectorAll("main *, header *, footer *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(".u-legend, progress, .htmx-indicator")) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
    lowest = Math.min(lowest, (a + 0.05) / (b + 0.05));
  }
  return lowest;
}"""
