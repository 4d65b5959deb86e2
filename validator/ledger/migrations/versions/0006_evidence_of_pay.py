"""Evidence of pay"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("draw", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("deadline_hash", sa.String(length=66), nullable=True))
    with op.batch_alter_table("submissions", schema=None) as batch_op:
        batch_op.add_column(sa.Column("committed_extrinsic", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("reveal", sa.JSON(), nullable=True))
    with op.batch_alter_table("measurements", schema=None) as batch_op:
        batch_op.add_column(sa.Column("fingerprint", sa.JSON(), nullable=True))
    with op.batch_alter_table("placings", schema=None) as batch_op:
        batch_op.add_column(sa.Column("gain", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("copy_of", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("fault", sa.String(length=16), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("factor", sa.Float(), nullable=False, server_default="1"))
        batch_op.add_column(sa.Column("deadline_block", sa.BigInteger(), nullable=False, server_default="0"))
        batch_op.create_index("ix_placings_deadline_block", ["deadline_block"], unique=False)
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.add_column(sa.Column("sent", sa.JSON(), nullable=True))
