"""Tasks that go on from others"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    with op.batch_alter_table("tasks") as table:
        table.add_column(sa.Column("continues", sa.String(length=32), nullable=True))
    op.create_index("ix_tasks_continues", "tasks", ["continues"], unique=False)
