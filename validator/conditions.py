"""What a validator needs to stay as it was at the start, beside what both daemons do: its ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gradients.conditions.watch import Look
from gradients.doctor.findings import Finding
from gradients.errors import OperatorError
from validator.ledger import Ledger


def ledger_look(ledger: Ledger, *, rest_seconds: float) -> Look:
    """Whether the ledger answers, and is one."""

    async def take() -> Sequence[Finding]:
        try:
            running = await asyncio.to_thread(ledger.tasks.running)
        except OperatorError as error:
            advice = error.fix or "see whether its database runs, and what else holds it"
            return [Finding("ledger", "missing", error.message, advice)]
        return [Finding("ledger", "ok", f"answers; {running} tasks have not ended")]

    return Look("ledger", take, rest_seconds)
