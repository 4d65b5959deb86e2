"""The validator's memory: one transactional store that survives kill -9 at any moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from sqlalchemy import Engine

from gradients.clock import Clock
from validator.ledger.census import Census
from validator.ledger.customers import Customers
from validator.ledger.events import Events
from validator.ledger.idempotency import IdempotencyKeys
from validator.ledger.outbox import Outbox
from validator.ledger.overview import Overview
from validator.ledger.placings import Placings
from validator.ledger.records import Records
from validator.ledger.slots import Slots
from validator.ledger.store import open_engine
from validator.ledger.submissions import Submissions
from validator.ledger.tasks import Tasks
from validator.ledger.uploads import UploadClaims


@dataclass(frozen=True, slots=True)
class Ledger:
    """Everything that is kept. Calls block for a database write: from the event loop, go through a thread."""

    engine: Engine
    tasks: Tasks
    submissions: Submissions
    placings: Placings
    outbox: Outbox
    customers: Customers
    events: Events
    slots: Slots
    records: Records
    uploads: UploadClaims
    idempotency: IdempotencyKeys
    census: Census
    overview: Overview

    @classmethod
    def open(cls, url: str, clock: Clock, *, migrate: bool = True) -> Self:
        """The ledger at `url`, migrated. Raises SetupError when it cannot be opened, and without `migrate` also for an older one."""
        engine = open_engine(url, migrate=migrate)
        return cls(
            engine=engine,
            tasks=Tasks(engine, clock),
            submissions=Submissions(engine, clock),
            placings=Placings(engine),
            outbox=Outbox(engine, clock),
            customers=Customers(engine, clock),
            events=Events(engine, clock),
            slots=Slots(engine),
            records=Records(engine),
            uploads=UploadClaims(engine, clock),
            idempotency=IdempotencyKeys(engine, clock),
            census=Census(engine, clock),
            overview=Overview(engine),
        )
