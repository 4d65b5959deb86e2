"""Counting what is in the ledger, for figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, func, select
from sqlalchemy.orm import Session

from gradients.clock import Clock
from gradients.domain.task import TaskState
from validator.ledger.rows import EventRow, OutboxRow, TaskRow


@dataclass(frozen=True, slots=True)
class Counts:
    """One moment's."""

    tasks: Mapping[str, int]  # by state
    waited_seconds: Mapping[
        str, float
    ]  # by state that is not the last: since the task that is longest in it came into it
    due: Mapping[str, int]  # by state: tasks that could be worked on now, and are not
    leased: int  # tasks that somebody works on
    lapsed: int  # tasks whose worker went away in the middle, and which nobody has taken up yet
    calls: Mapping[str, int]  # rows of weights, by state


class Census:
    """Counts of one validator's ledger."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def take(self, *, block: int) -> Counts:
        """What there is now, in a few queries of one moment."""
        now, ended = self._clock.now(), [state for state in TaskState if state.ended]
        running, is_leased = TaskRow.state.not_in(ended), TaskRow.lease_owner.is_not(None)
        entered = (  # of the tasks that run alone: what has ended is most of the ledger
            select(func.max(EventRow.at))
            .where(EventRow.task_id == TaskRow.id, EventRow.name == "task_advanced")
            .scalar_subquery()
        )
        state, call = TaskRow.state.expression, OutboxRow.state.expression
        with Session(self._engine) as session:

            def by(name: ColumnElement[str], *conditions: ColumnElement[bool]) -> dict[str, int]:
                counted = session.execute(select(name, func.count()).where(*conditions).group_by(name))
                return {row[0]: row[1] for row in counted}

            oldest: dict[str, float] = {}
            ages = select(TaskRow.state, func.coalesce(entered, TaskRow.created_at)).where(running)
            for name, at in session.execute(ages):
                oldest[name] = max(oldest.get(name, 0.0), now - at)
            return Counts(
                tasks=by(state),
                waited_seconds=oldest,
                due=by(
                    state,
                    running,
                    TaskRow.due_at_block <= block,
                    TaskRow.due_at <= now,
                    TaskRow.lease_expires_at <= now,
                ),
                leased=sum(by(state, running, is_leased, TaskRow.lease_expires_at > now).values()),
                lapsed=sum(by(state, running, is_leased, TaskRow.lease_expires_at <= now).values()),
                calls=by(call),
            )
