"""Outages of a task"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("outages", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("outage_since", sa.Float(), nullable=True))
