"""Models tried side by side on a page: what can be tried, answers that are text, votes that count once. tests/e2e tries real ones."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import httpx
import pytest

from gradients.bases.bases import BaseModels
from gradients.domain.json import JsonObject
from gradients.domain.task import Hotkey
from gradients.execution.job import Job, ReportProgress
from gradients.testing.axons import keypair_of
from gradients.testing.clock import HandClock
from gradients.testing.tiny_models import write_tiny_llama
from tests.unit.validator.market import TASK, assigned
from tests.unit.validator.paging import Served, scored, served, token_in
from validator.ledger import Ledger
from validator.pages.sessions import TALK_HOURS
from validator.pages.trying import VOTED
from validator.settings import PagesSettings

ALICE, BOB = (Hotkey(keypair_of(name).ss58_address) for name in ("alice", "bob"))


class Parrot:
    """An executor whose models repeat what they are asked, each with its own sign before it."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []

    async def run(self, job: Job, *, report: ReportProgress) -> JsonObject:
        self.jobs.append(job)
        [prompt] = cast(list[str], job.arguments["prompts"])
        names = ["base", *cast(dict[str, str], job.arguments["submissions"])]
        return {"answers": [{"prompt": prompt, **{name: f"{name} <b>{prompt}" for name in names}}]}


@pytest.fixture
def pages(tmp_path: Path, ledger: Ledger, clock: HandClock) -> Served:
    return tried(tmp_path, ledger, clock, Parrot())


def tried(
    folder: Path, ledger: Ledger, clock: HandClock, workers: Parrot, settings: PagesSettings | None = None
) -> Served:
    """A scored task whose models are still kept."""
    write_tiny_llama(folder / "bases" / "tiny")
    bases = BaseModels(shipped=folder / "bases", cache=folder / "cache")
    made = served(folder, ledger, clock, executor=workers, bases=bases, settings=settings)
    scored(ledger, clock, {ALICE: 2.0, BOB: 2.5})
    for hotkey in (ALICE, BOB):
        made.folders.submission(TASK, hotkey).mkdir(parents=True)
    return made


def ask(customer: httpx.Client, *entrants: str, prompt: str = "hello", **more: str) -> httpx.Response:
    form = {"csrf": token_in(customer.get("/account").text), "prompt": prompt, "entrant": list(entrants), **more}
    return customer.post(f"/tasks/{TASK}/try", data=form, headers={"hx-request": "true"})


def vote(customer: httpx.Client, shown: str, choice: str) -> httpx.Response:
    form = {"csrf": token_in(shown), "token": token_in(shown, "token"), "choice": choice}
    return customer.post(f"/tasks/{TASK}/votes", data=form, headers={"hx-request": "true"})


def test_base_and_models_answer_as_text_and_without_names(tmp_path: Path, ledger: Ledger, clock: HandClock) -> None:
    parrot = Parrot()
    pages = tried(tmp_path, ledger, clock, parrot)
    with pages.customer() as customer:
        shown = ask(customer, ALICE, BOB, prompt="<i>hi", tokens="9999")
    assert shown.status_code == 200
    answers = re.findall(r"<pre>(.*?)</pre>", shown.text)
    words = "&lt;b&gt;&lt;i&gt;hi"
    assert sorted(answers) == sorted([f"base {words}", f"{ALICE} {words}", f"{BOB} {words}"])
    assert "uid" not in shown.text
    assert [job.accelerator for job in parrot.jobs] == [False]  # no measurement loses a GPU
    assert {job.arguments["max_new_tokens"] for job in parrot.jobs} == {512}
    assert all(pages.folders.submission(TASK, ALICE) in job.reads for job in parrot.jobs[:1])


def test_a_vote_counts_once_names_everybody_and_stays_in_the_ledger(pages: Served) -> None:
    with pages.customer() as customer:
        shown = ask(customer, ALICE).text
        best = next(place for place, text in enumerate(re.findall(r"<pre>(.*?)</pre>", shown)) if ALICE in text)
        voted = vote(customer, shown, str(best))
        none = vote(customer, ask(customer, ALICE).text, "none")
        page = customer.get(f"/tasks/{TASK}").text
    assert "uid 1 (place 1): best in 1 of 1" in voted.text
    assert none.status_code == 200
    assert "uid 1 (place 1): best in 1 of 2" in page
    assert "the base: best in 0 of 2" in page
    [first, second] = pages.ledger.events.of_task(TASK, name=VOTED)
    assert (first.fields["chosen"], second.fields["chosen"], first.fields["customer"]) == (ALICE, None, "acme")


def test_a_second_vote_on_the_same_answers_is_refused_in_words_and_changes_nothing(pages: Served) -> None:
    """Another choice as well: whose answers they were has been told by then."""
    with pages.customer() as customer:
        shown = ask(customer, ALICE).text
        vote(customer, shown, "0")
        for choice in ("0", "1", "none"):
            again = vote(customer, shown, choice)
            assert again.status_code == 422
            assert re.sub(r"\s+", " ", again.text).strip() == (
                '<div class="message bad" role="alert"><strong>This vote was counted already</strong>'
                "<br>Ask again to compare once more</div>"
            )
        assert "best in 1 of 1" in customer.get(f"/tasks/{TASK}").text
    assert len(pages.ledger.events.of_task(TASK, name=VOTED)) == 1


def test_of_votes_of_the_same_moment_one_counts(pages: Served) -> None:
    """As a hand that shakes sends them: the posts pass each other on their way to the ledger."""
    with pages.customer() as customer:
        shown = ask(customer, ALICE).text
        with ThreadPoolExecutor(4) as hands:
            codes = sorted(answer.status_code for answer in hands.map(vote, [customer] * 4, [shown] * 4, "0101"))
    assert codes == [200, 422, 422, 422]
    assert len(pages.ledger.events.of_task(TASK, name=VOTED)) == 1


@pytest.mark.parametrize("choice", ["7", "-1", "base", ""])
def test_a_vote_for_what_was_not_shown_is_refused(pages: Served, choice: str) -> None:
    with pages.customer() as customer:
        assert vote(customer, ask(customer, ALICE).text, choice).status_code == 422
    assert pages.ledger.events.of_task(TASK, name=VOTED) == []


def test_answers_that_are_too_old_take_no_vote(pages: Served, clock: HandClock) -> None:
    with pages.customer() as customer:
        shown = ask(customer, ALICE).text
        clock.time += TALK_HOURS * 3600 + 1
        assert "too old to vote on" in vote(customer, shown, "0").text


@pytest.mark.parametrize(
    ("entrants", "prompt", "said"),
    [
        ((), "hello", "Choose 1 to 3"),
        ((BOB, "../../api.key"), "hello", "Choose 1 to 3"),
        ((ALICE,), " ", "A prompt has 1 to"),
        ((ALICE,), "x" * 4_001, "A prompt has 1 to"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_reason(
    pages: Served, entrants: tuple[str, ...], prompt: str, said: str
) -> None:
    with pages.customer() as customer:
        answer = ask(customer, *entrants, prompt=prompt)
    assert answer.status_code == 422
    assert said in answer.text


def test_a_base_that_is_too_large_for_this_machine_is_tried_elsewhere(
    tmp_path: Path, ledger: Ledger, clock: HandClock
) -> None:
    parrot = Parrot()
    pages = tried(tmp_path, ledger, clock, parrot, PagesSettings(most_tried_parameters=1_000_000))
    with pages.customer() as customer:
        assert "gradients task chat" in customer.get(f"/tasks/{TASK}").text
        assert ask(customer, ALICE).status_code == 422
    assert parrot.jobs == []


def test_models_of_another_customers_task_or_of_one_that_runs_are_not_tried(
    tmp_path: Path, ledger: Ledger, clock: HandClock
) -> None:
    bases = BaseModels(shipped=tmp_path, cache=tmp_path)
    parrot = Parrot()
    pages = served(tmp_path, ledger, clock, executor=parrot, bases=bases)
    assigned(ledger, [ALICE])
    with pages.customer() as owner, pages.customer("rival") as rival:
        assert "once the task is scored" in ask(owner, ALICE).text
        assert ask(rival, ALICE).status_code == 404
    assert parrot.jobs == []
