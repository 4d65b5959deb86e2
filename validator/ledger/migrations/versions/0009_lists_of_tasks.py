"""Lists of tasks and epochs, newest first"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_index("ix_tasks_created_at", "tasks", ["created_at"], unique=False)
    op.create_index("ix_tasks_state_created_at", "tasks", ["state", "created_at"], unique=False)
    op.create_index("ix_tasks_customer_created_at", "tasks", ["customer", "created_at"], unique=False)
    op.create_index("ix_outbox_decided_at_block", "outbox", ["decided_at_block"], unique=False)
