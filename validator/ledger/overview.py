"""What people look at across tasks: how many there are, and how miners have done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, case, func, or_, select
from sqlalchemy.orm import Session

from gradients.domain.task import Hotkey, TaskState
from gradients.errors import Blame
from validator.ledger.rows import PlacingRow, TaskRow


@dataclass(frozen=True, slots=True)
class Standing:
    """What tasks have said of one miner."""

    hotkey: Hotkey
    entered: int  # tasks that were scored with the miner in them
    measured: int  # of these, with a model that was measured
    at_fault: int  # of these, without one by the miner's own fault
    wins: int
    chances: float  # of being the best, added up


class Overview:
    """Reading across tasks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._standings: tuple[tuple[object, ...], Sequence[Standing]] | None = None  # what they were made of, and they

    def states(self, *, customer: str | None = None) -> dict[TaskState, int]:
        """How many tasks are in each state, of one customer or of all; every state is named."""
        query = select(TaskRow.state, func.count()).group_by(TaskRow.state)
        if customer is not None:
            query = query.where(TaskRow.customer == customer)
        with Session(self._engine) as session:
            counted = {TaskState(state): count for state, count in session.execute(query)}
        return {state: counted.get(state, 0) for state in TaskState}

    def standings(self, *, window_blocks: int) -> Sequence[Standing]:
        """Every miner's results in tasks whose deadline lies so many blocks before the newest one; most wins first."""
        newest = select(func.coalesce(func.max(PlacingRow.deadline_block), 0)).scalar_subquery()
        # a copy has a measurement and no rank; whoever has neither a gain nor a rank nor an original was not measured
        measured = or_(PlacingRow.rank.is_not(None), PlacingRow.copy_of.is_not(None), PlacingRow.gain.is_not(None))
        wins = func.sum(case((PlacingRow.rank == 1, 1), else_=0))
        query = (
            select(
                PlacingRow.hotkey,
                func.count(),
                func.sum(case((measured, 1), else_=0)),
                func.sum(case((PlacingRow.fault == Blame.MINER, 1), else_=0)),
                wins,
                func.sum(PlacingRow.points),
            )
            .where(PlacingRow.deadline_block >= newest - window_blocks)
            .group_by(PlacingRow.hotkey)
            .order_by(wins.desc(), PlacingRow.hotkey)
        )
        written = select(func.max(PlacingRow.scored_at), func.count())  # rows are written once and never changed
        with Session(self._engine) as session:
            made_of = (window_blocks, *session.execute(written).one())
            if self._standings is None or self._standings[0] != made_of:
                rows = session.execute(query)
                self._standings = (made_of, [Standing(Hotkey(hotkey), *numbers) for hotkey, *numbers in rows])
            return self._standings[1]
