"""Keys with scopes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    with op.batch_alter_table("api_keys") as table:
        table.add_column(sa.Column("name", sa.String(length=64), server_default="", nullable=False))
        table.add_column(sa.Column("scopes", sa.String(length=64), server_default="read submit", nullable=False))
        table.add_column(sa.Column("expires_at", sa.Float(), nullable=True))
