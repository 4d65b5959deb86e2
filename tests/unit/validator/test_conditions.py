"""A ledger that goes bad while a validator runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gradients.doctor.findings import Finding
from tests.unit.validator.market import draft
from validator.conditions import ledger_look
from validator.ledger import Ledger


def look_at(ledger: Ledger) -> Finding:
    [finding] = asyncio.run(_taken(ledger))
    return finding


async def _taken(ledger: Ledger) -> list[Finding]:
    return list(await ledger_look(ledger, rest_seconds=30.0).take())


def test_a_ledger_that_answers_is_there(ledger: Ledger) -> None:
    draft(ledger)
    assert look_at(ledger) == Finding("ledger", "ok", "answers; 1 tasks have not ended")


def test_a_ledger_whose_file_was_overwritten_is_missing_with_the_way_back(ledger: Ledger, tmp_path: Path) -> None:
    ledger.engine.dispose()
    for file in tmp_path.glob("ledger.db*"):
        file.write_bytes(b"not a database, but long enough to look like one " * 100)
    finding = look_at(ledger)
    assert (finding.level, "corrupt" in finding.found, finding.advice != "") == ("missing", True, True)
