"""The field's words: held_out, per_row, and whose fault it is when it is ours (operator)

Values in JSON columns are rewritten too, so that a ledger of an older version goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("measurements", schema=None) as batch_op:
        batch_op.alter_column("losses", new_column_name="per_row", existing_type=sa.JSON(), existing_nullable=False)
    _rewrite("tasks", ("id",), "prepared", _held_out)
    _rewrite("tasks", ("id",), "failure", _operator)
    _rewrite("submissions", ("task_id", "hotkey"), "failure", _operator)


def _held_out(prepared: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("heldout", "held_out"): value for key, value in prepared.items()}


def _operator(failure: dict[str, Any]) -> dict[str, Any]:
    return failure | {"blame": "operator"} if failure.get("blame") == "validator" else failure


def _rewrite(name: str, keys: tuple[str, ...], column: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    table = sa.table(name, *(sa.column(key, sa.String) for key in keys), sa.column(column, sa.JSON))
    connection = op.get_bind()
    for *key, value in connection.execute(sa.select(*(table.c[k] for k in keys), table.c[column])).all():
        if value is not None and (changed := change(value)) != value:
            same = sa.and_(*(table.c[k] == part for k, part in zip(keys, key, strict=True)))
            connection.execute(table.update().where(same).values({column: changed}))
