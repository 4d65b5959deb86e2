"""A customer's tasks page by page: which are meant, and where the next page begins however many tasks came in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session, defer

from gradients.domain.task import Task, TaskState
from gradients.texts import storable
from validator.ledger.rows import TaskRow


class Place(NamedTuple):
    """A task's place in the list: newest first, then by id."""

    created_at: float
    task_id: str


class TaskPage(NamedTuple):
    """Some tasks, and the place behind which the next page begins; None on the last page."""

    tasks: Sequence[Task]
    next: Place | None


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks are meant; what is not said does not narrow."""

    states: tuple[TaskState, ...] = ()
    type: str | None = None
    search: str | None = None  # in id, type and base; large and small letters are the same
    created_after: float | None = None
    created_before: float | None = None


def page_rows(
    session: Session, customer: str | None, wanted: TaskFilter, *, after: Place | None, limit: int
) -> Sequence[TaskRow]:
    """The rows of a page, of one customer or of all, without `draw`."""
    meant: list[ColumnElement[bool]] = []
    if customer is not None:
        meant.append(TaskRow.customer == customer)
    if wanted.states:
        meant.append(TaskRow.state.in_(wanted.states))
    if wanted.type is not None:
        meant.append(TaskRow.request["type"].as_string() == storable(wanted.type))
    if wanted.search:
        text = storable(wanted.search)
        places = (TaskRow.id, TaskRow.request["base"].as_string())  # an id begins with its type
        meant.append(or_(*(place.icontains(text, autoescape=True) for place in places)))
    if wanted.created_after is not None:
        meant.append(TaskRow.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        meant.append(TaskRow.created_at < wanted.created_before)
    if after is not None:
        same = and_(TaskRow.created_at == after.created_at, TaskRow.id > storable(after.task_id))
        meant.append(or_(TaskRow.created_at < after.created_at, same))
    query = select(TaskRow).options(defer(TaskRow.draw, raiseload=True)).where(*meant)
    return session.scalars(query.order_by(TaskRow.created_at.desc(), TaskRow.id).limit(limit)).all()
