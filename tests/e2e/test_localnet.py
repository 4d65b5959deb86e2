"""The main job as a user runs it: one command, real processes, real training, one JSON object; then a market that stands and is used.

btcli looks on, a customer uses a browser and follows the guide, a miner looks at its page, and an auditor checks.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Browser, Page, expect

from gradients.bases.bases import base_in
from gradients.client.answers import ApiRefused
from gradients.client.api import MarketClient
from gradients.client.delivery import bring
from gradients.client.requests import Wanted
from gradients.client.shelf import Shelf
from gradients.domain.task import TaskState
from gradients.tasks.registry import TYPES, task_type
from tests.e2e.browsing import Pictures, needs_chromium, sign_in, visit
from tests.e2e.guides import DOCS, commands
from tests.e2e.localnet_run import HOURS, Run, running_market

pytestmark = pytest.mark.slow

BTCLI = Path(sys.executable).with_name("btcli")
MOST_BYTES = 6e9  # of memory, all processes together
IN_THE_GUIDE, HERE = "Qwen/Qwen2.5-0.5B-Instruct", "nano-lm"  # no hub is asked by tests

TASK_KEYS = {"id", "type", "state", "metric", "better", "base_loss", "rows", "miners"}
MINER_KEYS = {"uid", "hotkey", "recipe", "loss", "stderr", "gain", "chance", "prize", "copy_of", "reason", "repo"}


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    asked = str(request.config.getoption("--market-types"))
    types = list(TYPES) if asked == "all" else asked.split(",")
    with running_market(types, tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Pictures:
    asked = request.config.getoption("--pictures")
    return Pictures(Path(asked) if asked else tmp_path, are_kept=bool(asked))


def test_the_report_says_everything_that_scripts_read(run: Run) -> None:
    assert set(run.report) == {"seconds", "tasks", "chain"}
    assert set(run.report["chain"]) == {"block", "weights", "incentive"}
    assert [set(task) for task in run.report["tasks"]] == [TASK_KEYS] * len(run.types)
    assert {frozenset(miner) for task in run.report["tasks"] for miner in task["miners"]} == {frozenset(MINER_KEYS)}


def test_every_task_is_scored_and_its_best_miner_beats_the_base_on_held_out_rows(run: Run) -> None:
    assert [(task["type"], task["state"]) for task in run.report["tasks"]] == [(name, "scored") for name in run.types]
    for task in run.report["tasks"]:
        higher = task["better"] == "higher"
        best = (max if higher else min)(task["miners"], key=lambda miner: miner["loss"])
        assert best["loss"] > task["base_loss"] if higher else best["loss"] < task["base_loss"], task
        assert best["prize"] == max(miner["prize"] for miner in task["miners"]) > 0
        assert list(Path(best["repo"]).glob("*.safetensors"))


def test_weights_and_incentive_follow_the_prizes(run: Run) -> None:
    weights, incentive = run.report["chain"]["weights"], run.report["chain"]["incentive"]
    prizes = [{str(miner["uid"]): miner["prize"] for miner in task["miners"]} for task in run.report["tasks"]]
    assert sum(weights.values()) == pytest.approx(1.0, abs=1e-3)
    for one, other in itertools.permutations(weights, 2):
        ahead = [task.get(one, 0.0) - task.get(other, 0.0) for task in prizes]
        if min(ahead) >= 0 < max(ahead):
            assert weights[one] > weights[other]
    assert incentive == pytest.approx(weights, abs=1e-3)  # there is one validator, and all agree with it


def test_btcli_shows_the_miners_incentives_while_the_market_stands(run: Run, tmp_path: Path) -> None:
    command = [str(BTCLI), "query", "metagraph", "--netuid", "1", "--network", run.chain_url, "--json"]
    looked = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=600,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        check=False,
    )
    assert looked.returncode == 0, looked.stderr
    shown = json.loads(looked.stdout)
    shown = {str(uid): share / 65535 for uid, share in enumerate(json.loads(looked.stdout)["incentives"]) if share}
    assert shown == pytest.approx(run.report["chain"]["incentive"], abs=1e-3)


@needs_chromium
def test_a_customer_goes_on_from_a_winner_in_a_browser_while_a_miner_watches_its_own_page(
    run: Run, browser: Browser, pictures: Pictures, tmp_path: Path
) -> None:
    first, problems = _scored(run), list[str]()
    page, miner = visit(browser, problems), visit(browser, problems)
    miner.goto(run.miner_urls[0])
    sign_in(page, run.api_url, run.key)
    pictures.take(page, "overview-dark", scheme="dark")
    page.goto(f"{run.api_url}/tasks/{first['id']}")
    expect(page.get_by_role("heading", name="Results")).to_be_visible()
    pictures.take(page, "task")
    page.get_by_role("link", name="Train it further").click()
    task_id = _posted_by_form(page, first["type"], pictures)

    expect(miner.get_by_role("heading", name=task_id)).to_be_visible()
    expect(miner.locator(f"#curve-{task_id} canvas")).to_be_visible()
    expect(page.locator("[aria-current=step]")).to_have_text("assigned")
    expect(page.locator("tbody progress").first).to_be_visible()
    expect(page.locator(".chart canvas")).to_be_visible()
    if pictures.are_kept:  # then there is more to see
        expect(page.get_by_text(re.compile(r"[4-9]\d% training")).first).to_be_visible()
    pictures.take(page, "running")
    pictures.take(miner, "miner")
    expect(page.get_by_role("heading", name="Results")).to_be_visible()  # by itself, without another load
    expect(page.locator("[aria-current=step]")).to_have_text("scored")
    for ended, how in (
        (first["id"], "scored"),
        (task_id, re.compile("scored|failed")),
    ):  # the other miner's counts as well
        expect(miner.locator("tr").filter(has_text=ended).locator(".badge")).to_have_text(how)
    expect(miner.locator("tr").filter(has_text="registered").locator(".badge")).to_have_text("met")

    page.get_by_role("link", name=first["id"]).click()
    expect(page.get_by_role("link", name=task_id)).to_be_visible()
    _compare_and_vote(page, pictures)
    page.get_by_role("link", name="Files of the winner").click()
    row = page.locator("tbody tr").filter(has_text=".safetensors").first
    with page.expect_download() as download:
        row.get_by_role("link").click()
    digest = hashlib.sha256(download.value.path().read_bytes()).hexdigest()
    expect(row.locator("code")).to_have_text(digest)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    assert [each for each in problems if "422" not in each] == []  # browser and htmx tell of the vote that is refused
    _came_from(run, first, task_id, tmp_path)


def _scored(run: Run) -> Mapping[str, Any]:
    """A task of the market whose models talk."""
    found: list[Mapping[str, Any]] = [
        task for task in run.report["tasks"] if task_type(task["type"]).base_family == "language"
    ]
    return found[0] if found else pytest.skip("there is none with --market-types")


def _posted_by_form(page: Page, kind: str, pictures: Pictures) -> str:
    """Fill the form in that goes on from a model, with the rows of the type's demonstration; the new task."""
    shown = task_type(kind).demonstrations[0]
    page.get_by_label("or upload a file:").first.set_input_files(shown.dataset)
    expect(page.get_by_label("Data set", exact=True)).to_have_value(re.compile("upload:"))
    for name, column in cast(Mapping[str, str], shown.parameters.get("columns", {})).items():
        page.locator(f"[name='parameters.columns.{name}']").fill(column)
    page.get_by_label("Private", exact=True).uncheck()  # so that everything can be checked by an auditor
    page.get_by_role("button", name="Estimate").click()
    expect(page.locator("#estimate")).to_contain_text("Some rows as they will be trained on")
    pictures.take(page, "post")
    page.get_by_role("button", name="Take these hours").click()
    hours = page.get_by_label("Hours for each miner")
    expect(hours).not_to_be_empty()
    hours.fill(str(2 * HOURS))  # its miners train while a browser works
    page.get_by_role("button", name="Post the task").click()
    page.wait_for_url(re.compile(r"/tasks/[\w-]+$"))
    return page.url.rpartition("/")[2]


def _compare_and_vote(page: Page, pictures: Pictures) -> None:
    """Ask the base and the winner; nobody is named before the vote."""
    page.get_by_label("Prompt").fill("What is a house?")
    page.get_by_label("Longest answer").fill("16")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".answer")).to_have_count(2)
    assert "uid" not in page.locator("#answers").inner_text()
    page.get_by_role("button", name="A is best").click()
    expect(page.locator("#vote")).to_contain_text("was the base")
    expect(page.locator("#vote")).to_contain_text("(place 1): best in")
    pictures.take(page, "compare", at="#try")
    page.get_by_role("button", name="B is best").click()
    expect(page.locator("#vote").get_by_role("alert")).to_contain_text("This vote was counted already")


def _came_from(run: Run, first: Mapping[str, Any], task_id: str, folder: Path) -> None:
    """The new task's miners have had the former winner from the validator's axon, its base is better, and comes home with a model."""
    with MarketClient(run.api_url, run.key) as client:
        task = client.task(task_id)
        assert (task.state, [step.task for step in task.lineage]) == (TaskState.SCORED, [first["id"]])
        assert task.data is not None
        assert task.base_loss is not None
        better = task.base_loss > first["base_loss"] if task.better == "higher" else task.base_loss < first["base_loss"]
        assert better
        measured = [miner.hotkey for miner in task.miners if miner.loss is not None]
        assert measured
        brought = bring(client, task.id, Shelf(folder / "models"), miner=measured[0])
    assert base_in(task.base, brought / "base").digest == task.data.base_digest
    given = run.home / ".cache" / "gradients" / "bases" / f"{task.base}@{task.data.base_digest}"
    assert base_in(task.base, given).digest == task.data.base_digest


def test_an_auditor_who_follows_the_guide_finds_nothing_wrong(run: Run, tmp_path: Path) -> None:
    """Word for word, but for what is in <> and the network. Weights of an auditor's own are set in tests/contract/chain."""
    with MarketClient(run.api_url, run.key) as client:
        scored = len(client.tasks(Wanted(states=[TaskState.SCORED])).tasks)
    reports = []
    for command in commands(DOCS / "start" / "auditor.md"):
        here = command.replace("https://<validator>", run.api_url).replace("<netuid>", "1")
        said = run.follow(here.replace("--network test", f"--network {run.chain_url}") + " --json", tmp_path)
        reports.append(json.loads(said.splitlines()[-1]))
    found, measured, copied, checked = reports
    assert copied["records"] > 0
    assert [report["alarms"] for report in (found, measured, checked)] == [[], [], []]
    assert {report["tasks"] for report in (found, measured, checked)} == {scored}
    assert [report["reevaluated"] for report in (found, measured, checked)] == [0, 2, 0]
    assert found["epochs"] >= 1


def test_the_customers_guide_leads_from_rows_to_a_model(run: Run, tmp_path: Path) -> None:
    """Word for word, but for what is in <> and the base. The task that it posts asks for hours, so one that is scored is looked at."""
    rows = (f'{{"question": "What is {n} times {n}?", "answer": "It is {n * n}."}}\n' for n in range(100))
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    scored, said = str(_scored(run)["id"]), dict[str, str]()
    for command in commands(DOCS / "start" / "customer.md"):
        words = command.replace(IN_THE_GUIDE, HERE).replace("<id>", scored)
        said[words.split()[2]] = run.follow(words, tmp_path)
        if " submit " in command:
            posted = said["submit"].split()[0]
            with MarketClient(run.api_url, run.key) as client, suppress(ApiRefused):  # miners may have begun
                client.cancel(posted)
    assert {"estimate", "submit", "watch", "show", "compare", "download"} <= set(said)
    assert all(scored in said[name] for name in ("watch", "show"))
    assert list((tmp_path / "model").rglob("*.safetensors"))


def test_all_processes_together_hold_less_than_six_gigabytes(run: Run) -> None:
    assert 1e8 < run.peak_bytes < MOST_BYTES
