"""Trying models on the page: base and fine-tunes answer one prompt side by side, unnamed until somebody has said which is best.

It runs on the CPU, one at a time, so that it never takes a GPU from a measurement. No score depends on what people say.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from gradients.domain.json import JsonObject
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import Task, TaskState
from gradients.errors import CustomerError, LedgerConflict
from gradients.execution.job import Job
from gradients.tasks.registry import task_type
from validator.pages.dependencies import AnyVisitor, Form, OwnForm, OwnTask, Pages, PagesBehind, first, show
from validator.pages.sessions import TALK_HOURS
from validator.specs.continuing import base_of

VOTED = "answers_compared"  # the event that keeps a vote
MOST_ENTRANTS = 3  # beside the base
MOST_PROMPT, MOST_NEW_TOKENS = 4_000, 512

router = APIRouter(include_in_schema=False, prefix="/tasks")


class TrialRefused(CustomerError):
    """Models that cannot be tried here, or not now: validator/pages/trying.py."""

    default_code = "trial_refused"


class Shown(TypedDict):
    """What a visitor was shown, as the form of a vote holds it."""

    nonce: str
    task: str
    prompt: str
    order: list[str]  # entrants, as their answers stood side by side


@router.post("/{task_id}/try")
async def ask(task: OwnTask, pages: PagesBehind, visitor: AnyVisitor, form: OwnForm) -> HTMLResponse:
    """Answers of the base and of the chosen fine-tunes to a prompt, in an order that tells nothing."""
    prompt, asked = first(form, "prompt").strip(), list(dict.fromkeys(form.get("entrant", ())))
    offered = await asyncio.to_thread(can_try, pages, task)
    if isinstance(offered, str):
        raise TrialRefused(offered)
    if not prompt or len(prompt) > MOST_PROMPT:
        raise TrialRefused(f"A prompt has 1 to {MOST_PROMPT:,} characters", fix="Write one")
    if not asked or len(asked) > MOST_ENTRANTS or not set(asked) <= set(offered):
        raise TrialRefused(f"Choose 1 to {MOST_ENTRANTS} of the models", fix="Tick them above the prompt")
    if pages.turn.locked():
        raise TrialRefused("Somebody tries a model at this moment", fix="Ask again in a minute")
    async with pages.turn:
        answers = await _answers(pages, task, prompt, asked, tokens=_tokens(form))
    order = list(answers)
    secrets.SystemRandom().shuffle(order)
    shown: Shown = {"nonce": secrets.token_hex(8), "task": task.id, "prompt": prompt, "order": order}
    token = pages.sessions.keep(cast(JsonObject, shown), hours=TALK_HOURS)
    return show(pages, visitor, "answers.html", task=task, answers=[answers[who] for who in order], token=token)


@router.post("/{task_id}/votes")
async def vote(task: OwnTask, pages: PagesBehind, visitor: AnyVisitor, form: OwnForm) -> HTMLResponse:
    """Keep which answer was the best, and say whose they were."""
    found, choice = pages.sessions.find(first(form, "token")), first(form, "choice")
    if not isinstance(found, Mapping):  # too old, or never shown
        raise TrialRefused("These answers are too old to vote on", fix="Ask again")
    shown = cast(Shown, found)
    order = shown["order"]
    if shown["task"] != task.id or choice not in ("none", *map(str, range(len(order)))):
        raise TrialRefused("That is no answer of this task", fix="Ask again, and choose one of the answers")
    chosen = None if choice == "none" else order[int(choice)]
    await asyncio.to_thread(_keep, pages, task, shown, customer=visitor.customer or "", chosen=chosen)
    tally, names = await asyncio.to_thread(votes_of, pages, task), await asyncio.to_thread(_names, pages, task)
    return show(pages, visitor, "voted.html", chosen=chosen, order=[names.get(who, who) for who in order], votes=tally)


def can_try(pages: Pages, task: Task) -> Mapping[str, str] | str:
    """Hotkey -> name of the models that can be tried, the best first; or why none can. Blocking."""
    if task.state is not TaskState.SCORED:
        return "Models can be tried once the task is scored"
    if task_type(task.request.type).base_family != "language":
        return "Models of this kind draw; the contact sheet shows what they have drawn"
    most = pages.settings.most_tried_parameters
    if task.data.base_parameters > most:
        return f"This validator tries models of up to {most:,} weights; `gradients task chat` tries larger ones on your machine"
    kept = {
        who: name for who, name in _names(pages, task).items() if pages.api.folders.submission(task.id, who).is_dir()
    }
    return kept or "There is no model of this task to try, or none is kept any more"


def votes_of(pages: Pages, task: Task) -> Mapping[str, tuple[int, int]]:
    """Name of an entrant -> how often it was the best, of how many comparisons with it. Blocking."""
    names = _names(pages, task)
    tally: dict[str, tuple[int, int]] = {}
    for event in pages.api.ledger.events.of_task(task.id, name=VOTED):
        for who in cast(list[str], event.fields["shown"]):
            won, seen = tally.get(who, (0, 0))
            tally[who] = (won + (event.fields["chosen"] == who), seen + 1)
    return {names.get(who, who): counts for who, counts in tally.items()}


def _names(pages: Pages, task: Task) -> dict[str, str]:
    """Entrant -> what people call it, the base last."""
    uids = {submission.hotkey: submission.uid for submission in pages.api.ledger.submissions.of_task(task.id)}
    placed = [placing for placing in pages.api.ledger.placings.of_task(task.id) if placing.rank is not None]
    return {placing.hotkey: f"uid {uids[placing.hotkey]} (place {placing.rank})" for placing in placed}


def _keep(pages: Pages, task: Task, shown: Shown, *, customer: str, chosen: str | None) -> None:
    """Write a vote down. Raises TrialRefused for a second one on the same answers, of the same moment too."""
    fields: JsonObject = {
        "nonce": shown["nonce"],
        "customer": customer,
        "prompt": shown["prompt"],
        "shown": shown["order"],
        "chosen": chosen,
    }
    try:
        pages.api.ledger.events.add_once(VOTED, task_id=task.id, fields=fields, by="nonce")
    except LedgerConflict as error:
        raise TrialRefused("This vote was counted already", fix="Ask again to compare once more") from error


def _tokens(form: Form) -> int:
    text = first(form, "tokens", "128")
    return min(max(int(text), 1), MOST_NEW_TOKENS) if text.isascii() and text.isdigit() else 128


async def _answers(pages: Pages, task: Task, prompt: str, entrants: Sequence[str], *, tokens: int) -> dict[str, str]:
    """Entrant -> its answer, the base's among them."""
    base = await asyncio.to_thread(base_of, task, pages.api.estimates.bases, pages.api.folders)
    folders = {entrant: pages.api.folders.submission(task.id, entrant) for entrant in entrants}
    arguments: JsonObject = {
        "base_folder": str(base.folder),
        "submissions": {entrant: str(folder) for entrant, folder in folders.items()},
        "prompts": [prompt],
        "max_new_tokens": tokens,
    }
    with tempfile.TemporaryDirectory(prefix="gradients-try-") as place:
        job = Job(
            task_type(task.request.type).generate,
            arguments,
            Path(place) / "job",
            deadline_seconds=(len(folders) + 1) * pages.settings.try_seconds,
            reads=(base.folder, *folders.values()),
        )
        result = await pages.workers.run(job, report=lambda _: None)
    [answer] = cast(list[Mapping[str, str]], result["answers"])
    return {who: answer[who] for who in (BASE_ENTRANT, *folders)}
