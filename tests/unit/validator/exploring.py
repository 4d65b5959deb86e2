"""Scored tasks whose held-out rows are kept, with values that tests write out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gradients.domain.evaluation import Measurement, Metric, Placing
from gradients.domain.json import Json, JsonObject, canonical
from gradients.domain.submission import BASE_ENTRANT
from gradients.domain.task import Blob, Hotkey, TaskRequest, TaskState
from gradients.repo.store import ContentStore
from gradients.testing.axons import keypair_of
from tests.unit.validator.market import PREPARED, TASK, claimed, collected
from tests.unit.validator.paging import METRIC, Served
from validator.ledger.placings import add_placings

ALICE, BOB = (Hotkey(keypair_of(name).ss58_address) for name in ("alice", "bob"))
DEADLINE_HASH = "0x" + "7" * 64
WORDS = ("zero", "one", "two", "three")
ROWS = [{"system": None, "prompt": f"Which number is {word}?", "completion": f"{word}!"} for word in WORDS]
BASE = (3.0, 2.0, 1.0, 4.0)
OURS = (1.0, 2.5, 1.0, 3.0)  # lower is better: row 1 gains 2, row 2 loses 0.5, row 3 neither, row 4 gains 1


def explored(
    pages: Served,
    values: Mapping[str, Sequence[float]],
    rows: Sequence[JsonObject] = ROWS,
    *,
    request: TaskRequest | None = None,
    metric: Metric = METRIC,
    made_up: int = 0,
    won: str | None = ALICE,
    state: TaskState = TaskState.SCORED,
) -> str:
    """A task that was measured so, or is about to be scored; the digest of its held-out rows.

    Args:
        values: of the base, and of each miner by hotkey; of a miner with fewer than the base, those of a race's first rows.
    """
    file = pages.folders.root / "held-out"
    file.write_bytes(b"".join(canonical(row) + b"\n" for row in rows))
    digest = ContentStore(pages.folders.blobs).add_file(file)
    file.unlink()
    prepared = replace(PREPARED, held_out=Blob(digest, 1), held_out_rows=len(rows), made_up_rows=made_up)
    miners = [hotkey for hotkey in values if hotkey != BASE_ENTRANT]
    collected(pages.ledger, miners, request, prepared=prepared)
    lease = claimed(pages.ledger, TaskState.COLLECTED).lease
    for entrant, given in values.items():
        mean = sum(given) / len(given)
        rows_of = len(rows) if len(given) < len(rows) else None
        pages.ledger.submissions.measured(lease, Measurement(entrant, metric, mean, 0.1, tuple(given), rows_of=rows_of))
    pages.ledger.tasks.advance(lease, came_from=TaskState.COLLECTED, to=TaskState.MEASURED)
    if state is TaskState.SCORED:
        claim = claimed(pages.ledger, TaskState.MEASURED)
        ranked = [hotkey for hotkey in miners if won is not None]
        placings = [
            Placing(Hotkey(each), 1 if each == won else 2, 0.5, 0.5, "measured") if ranked else _unplaced(each)
            for each in miners
        ]
        pages.ledger.tasks.advance(
            claim.lease,
            came_from=TaskState.MEASURED,
            to=TaskState.SCORED,
            deadline_hash=DEADLINE_HASH,
            also=lambda session: add_placings(
                session, claim.task, placings, rules_version=2, factor=1.0, now=claim.task.created_at
            ),
        )
    return digest


def _unplaced(hotkey: str) -> Placing:
    return Placing(Hotkey(hotkey), None, 0.0, 0.0, "not better than the base")


def row_page(pages: Served, key: str, **asked: Json) -> JsonObject:
    """What the API lists of the task's rows."""
    with pages.visitor() as client:
        answer = client.get(f"/v1/tasks/{TASK}/rows", params=asked, headers={"authorization": f"Bearer {key}"})  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    found: JsonObject = answer.json()
    return found
