"""What tasks said about miners: written once per task, and read back for pay, for draws and for people."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from gradients.domain.evaluation import Placing
from gradients.domain.task import Hotkey, Task
from gradients.errors import Blame
from gradients.scoring.contest import REMEMBERED_WINNERS, Result, Winner
from validator.ledger.encoding import fingerprint_of, placing_of
from validator.ledger.rows import MeasurementRow, PlacingRow, TaskRow


def add_placings(
    session: Session, task: Task, placings: Sequence[Placing], *, rules_version: int, factor: float, now: float
) -> None:
    """Write a task's placings within the transaction that makes it SCORED."""
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
            factor=factor,
            deadline_block=task.blocks.deadline_block,
            rules_version=rules_version,
            scored_at=now,
        )
        for placing in placings
    )


class Placings:
    """Everybody's places and prizes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of_task(self, task_id: str) -> list[Placing]:
        """Placings of one task, best rank first."""
        query = select(PlacingRow).where(PlacingRow.task_id == task_id)
        ranked = query.order_by(PlacingRow.rank.is_(None), PlacingRow.rank, PlacingRow.hotkey)
        with Session(self._engine) as session:
            return [placing_of(row) for row in session.scalars(ranked)]

    def best_of(self, task_ids: Collection[str]) -> dict[str, Placing]:
        """Task -> its best place, of the tasks in which anybody has one."""
        best = select(PlacingRow).where(PlacingRow.task_id.in_(task_ids), PlacingRow.rank == 1)
        with Session(self._engine) as session:
            return {row.task_id: placing_of(row) for row in session.scalars(best)}

    def results(self, *, window_blocks: int | None) -> list[Result]:
        """All tasks' rows, oldest deadline first; those of the last `window_blocks` before the newest deadline, or all."""
        query = select(PlacingRow, TaskRow.customer).join(TaskRow, TaskRow.id == PlacingRow.task_id)
        with Session(self._engine) as session:
            newest = session.scalar(select(func.max(PlacingRow.deadline_block))) or 0
            if window_blocks is not None:
                query = query.where(PlacingRow.deadline_block >= newest - window_blocks)
            ordered = query.order_by(PlacingRow.deadline_block, PlacingRow.task_id, PlacingRow.hotkey)
            return [_result(row, customer) for row, customer in session.execute(ordered)]

    def winners(self, base_digest: str, *, before_block: int) -> list[Winner]:
        """Models that won tasks on this base which ended before `before_block`, newest first."""
        query = (
            select(PlacingRow.hotkey, PlacingRow.task_id, TaskRow.prepared, MeasurementRow.fingerprint)
            .join(TaskRow, TaskRow.id == PlacingRow.task_id)
            .join(MeasurementRow, MeasurementRow.task_id == PlacingRow.task_id)
            .where(MeasurementRow.entrant == PlacingRow.hotkey, PlacingRow.rank == 1)
            .where(PlacingRow.deadline_block < before_block)
            .order_by(PlacingRow.deadline_block.desc(), PlacingRow.task_id)
            .limit(REMEMBERED_WINNERS)
        )
        with Session(self._engine) as session:
            return [
                Winner(Hotkey(hotkey), task_id, fingerprint)
                for hotkey, task_id, prepared, column in session.execute(query)
                if prepared and prepared["base_digest"] == base_digest and (fingerprint := fingerprint_of(column))
            ]


def _result(row: PlacingRow, customer: str) -> Result:
    return Result(
        task_id=row.task_id,
        task_type=row.task_type,
        customer=customer,
        hotkey=Hotkey(row.hotkey),
        points=row.points,
        adjusted_points=row.adjusted_points,
        factor=row.factor,
        gain=row.gain,
        copied=row.copy_of is not None,
        fault=Blame(row.fault) if row.fault else None,
        deadline_block=row.deadline_block,
        scored_at=row.scored_at,
        rules_version=row.rules_version,
    )
