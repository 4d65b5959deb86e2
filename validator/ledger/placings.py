"""Points, written once per task, and read back by windows of time."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from gradients.domain.evaluation import Placing
from gradients.domain.task import Hotkey, Task
from gradients.scoring.standings import ScoredPoints
from validator.ledger.encoding import placing_of
from validator.ledger.rows import PlacingRow


def add_placings(session: Session, task: Task, placings: Sequence[Placing], *, rules_version: int, now: float) -> None:
    """Write a task's points within the transaction that makes it SCORED."""
    session.add_all(
        PlacingRow(
            task_id=task.id,
            hotkey=placing.hotkey,
            task_type=task.request.type,
            rank=placing.rank,
            points=placing.points,
            adjusted_points=placing.adjusted_points,
            gain=placing.gain,
            copy_of=placing.copy_of,
            fault=placing.fault or "",
            reason=placing.reason,
            rules_version=rules_version,
            scored_at=now,
        )
        for placing in placings
    )


class Placings:
    """Everybody's points."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def exist(self) -> bool:
        """Whether anything has ever been scored."""
        with Session(self._engine) as session:
            return session.scalar(select(PlacingRow.task_id).limit(1)) is not None

    def of_task(self, task_id: str) -> list[Placing]:
        """Points of one task, best rank first."""
        query = select(PlacingRow).where(PlacingRow.task_id == task_id)
        ranked = query.order_by(PlacingRow.rank.is_(None), PlacingRow.rank, PlacingRow.hotkey)
        with Session(self._engine) as session:
            return [placing_of(row) for row in session.scalars(ranked)]

    def since(self, moment: float) -> list[ScoredPoints]:
        """Points of all tasks that were scored after `moment`."""
        query = select(PlacingRow).where(PlacingRow.scored_at >= moment).order_by(PlacingRow.scored_at)
        with Session(self._engine) as session:
            return [
                ScoredPoints(Hotkey(row.hotkey), row.task_type, row.points, row.adjusted_points, row.scored_at)
                for row in session.scalars(query)
            ]

    def mean_points_since(self, moment: float) -> dict[Hotkey, float]:
        """Each miner's mean points after `moment`."""
        query = select(PlacingRow.hotkey, func.avg(PlacingRow.points)).where(PlacingRow.scored_at >= moment)
        with Session(self._engine) as session:
            rows = session.execute(query.group_by(PlacingRow.hotkey))
            return {Hotkey(hotkey): float(mean) for hotkey, mean in rows}
