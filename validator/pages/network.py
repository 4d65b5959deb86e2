"""What anybody may see of the whole subnet: tasks, pay, epochs, and how miners have done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from gradients.domain.task import Hotkey, TaskState
from validator.ledger.listing import TaskFilter
from validator.ledger.outbox import Outgoing
from validator.pages.dependencies import AnyVisitor, Pages, PagesBehind, show
from validator.pages.figures import leaderboard

NEWEST = 10  # tasks, epochs and miners of the overview
WINDOW_DAYS = 30
WINDOW_BLOCKS = WINDOW_DAYS * 7_200  # of 12 seconds
RUNNING = tuple(state for state in TaskState if not state.ended)

router = APIRouter(include_in_schema=False)


@router.get("/")
def overview(pages: PagesBehind, visitor: AnyVisitor) -> HTMLResponse:
    """The subnet as this validator sees it now."""
    ledger, view = pages.api.ledger, pages.view
    scored = ledger.tasks.page(None, TaskFilter(states=(TaskState.SCORED,)), limit=NEWEST).tasks
    running = ledger.tasks.page(None, TaskFilter(states=RUNNING), limit=NEWEST).tasks
    calls = ledger.outbox.all(limit=NEWEST)
    return show(
        pages,
        visitor,
        "overview.html",
        states=ledger.overview.states(),
        running=pages.api.board.summaries(running),
        scored=pages.api.board.summaries(scored),
        best=ledger.placings.best_of([task.id for task in scored]),
        calls=calls,
        shares=sorted(shares_in(calls).items(), key=lambda each: -each[1])[:NEWEST],
        uids=uids_of(pages),
        block=view.block,
        metagraph=view.metagraph() if view.block else None,
        ready=pages.api.conditions.ready(),
        missing=[each.name for each in pages.api.conditions.findings if each.level == "missing"],
        notes=pages.api.notes,
    )


@router.get("/leaderboard")
def leaders(pages: PagesBehind, visitor: AnyVisitor) -> HTMLResponse:
    """Every miner with a result in the last weeks, or with pay."""
    ledger = pages.api.ledger
    standings = ledger.overview.standings(window_blocks=WINDOW_BLOCKS)
    rows = leaderboard(standings, shares_in(ledger.outbox.all(limit=1)), uids_of(pages))
    return show(pages, visitor, "leaderboard.html", rows=rows, days=WINDOW_DAYS)


def shares_in(calls: Sequence[Outgoing]) -> Mapping[Hotkey, float]:
    """hotkey -> its share of the newest weights that were decided."""
    return cast(Mapping[Hotkey, float], calls[0].payload["shares"]) if calls else {}


def uids_of(pages: Pages) -> dict[str, int]:
    """hotkey -> uid, as the subnet is now; nothing while the chain was not read."""
    return {neuron.hotkey: neuron.uid for neuron in pages.view.metagraph().neurons} if pages.view.block else {}
