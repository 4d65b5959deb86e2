"""The API key that commands on the validator's own machine use."""

from __future__ import annotations

import os
from pathlib import Path

from validator.ledger.customers import Customers

LOCAL_CUSTOMER = "local"


def keep_local_key(customers: Customers, file: Path) -> None:
    """Make a key for this machine unless `file` holds one that works; only the owner may read it."""
    if file.is_file() and customers.of_key(file.read_text(encoding="utf-8").strip()):
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(customers.issue(LOCAL_CUSTOMER))
    part.replace(file)
