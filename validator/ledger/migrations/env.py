"""Alembic's entry: runs on the connection that store.py hands over, or offline to print SQL."""

from __future__ import annotations

from alembic import context

from validator.ledger.rows import LedgerTable

connection = context.config.attributes.get("connection")
context.configure(connection=connection, target_metadata=LedgerTable.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
