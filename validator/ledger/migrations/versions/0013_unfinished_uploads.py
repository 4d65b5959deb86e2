"""Uploads that come piece by piece"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "unfinished_uploads",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("customer", sa.String(length=64), nullable=False),
        sa.Column("file_name", sa.String(length=255), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("touched_at", sa.Float(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_unfinished_uploads")),
    )
    op.create_index(op.f("ix_unfinished_uploads_customer_created_at"), "unfinished_uploads", ["customer", "created_at"])
    op.create_index(op.f("ix_unfinished_uploads_touched_at"), "unfinished_uploads", ["touched_at"])
