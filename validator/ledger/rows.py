"""The ledger's tables. One transactional store is the truth; processes, GPUs and caches are not."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Float, Index, Integer, LargeBinary, MetaData, TypeDecorator, types
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from gradients.texts import harmless, storable

JsonColumn = dict[str, Any]  # Any: SQLAlchemy's JSON type has no narrower one; encoding.py checks what comes out


class String(TypeDecorator[str]):
    """Text that every database takes: a NUL, and what is longer than the column, which PostgreSQL refuses, are mended.

    In what is written and in what is looked for alike; a text that was cut says so, and so is never the name of anything else.
    """

    impl = types.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        text, most = storable(value), getattr(self.impl_instance, "length", None)
        return text if most is None or len(text) <= most else harmless(text, most=most)


class Text(String):
    """The same without a length."""

    impl = types.Text
    cache_ok = True


class LedgerTable(DeclarativeBase):
    """Constraint names are fixed, so that migrations can name them on every database."""

    metadata = MetaData(naming_convention={"ix": "ix_%(table_name)s_%(column_0_N_name)s", "pk": "pk_%(table_name)s"})
    type_annotation_map = {JsonColumn: JSON}  # noqa: RUF012 (SQLAlchemy's own protocol)


class TaskRow(LedgerTable):
    """A task, and the lease of whoever works on it."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index(None, "state", "due_at_block"),
        Index(None, "created_at"),  # lists are newest first: of all tasks, of a state, of a customer
        Index(None, "state", "created_at"),
        Index(None, "customer", "created_at"),
        Index(None, "continues"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float] = mapped_column(Float)
    customer: Mapped[str] = mapped_column(String(64))
    request: Mapped[JsonColumn]
    salt: Mapped[bytes] = mapped_column(LargeBinary(32))  # secret: decides the split and every seed
    prepared: Mapped[JsonColumn | None]
    window: Mapped[JsonColumn | None]
    draw: Mapped[JsonColumn | None]  # all that went into the draw of the pool
    deadline_hash: Mapped[str | None] = mapped_column(
        String(66)
    )  # of the deadline block: decides every seed of scoring
    failure: Mapped[JsonColumn | None]
    due_at_block: Mapped[int] = mapped_column(BigInteger, default=0)  # no stage touches it before
    due_at: Mapped[float] = mapped_column(Float, default=0.0)  # set back after a failed attempt
    attempts: Mapped[int] = mapped_column(
        Integer, default=0
    )  # claims since the last change of state, less those that outages ended
    outages: Mapped[int] = mapped_column(Integer, default=0, server_default="0")  # claims in a row that an outage ended
    outage_since: Mapped[float | None] = mapped_column(Float)  # when the first of them ended
    looked_at_block: Mapped[int | None] = mapped_column(BigInteger)  # the last full look of a state that takes several
    continues: Mapped[str | None] = mapped_column(String(32))  # the task whose winner is its base
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    lease_token: Mapped[int] = mapped_column(BigInteger, default=0)  # grows with every claim: the fence
    lease_expires_at: Mapped[float] = mapped_column(Float, default=0.0)


class SubmissionRow(LedgerTable):
    """One miner's part in one task."""

    __tablename__ = "submissions"

    task_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    hotkey: Mapped[str] = mapped_column(String(64), primary_key=True)
    uid: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16))
    recipe: Mapped[str] = mapped_column(String(64), default="")
    committed_at_block: Mapped[int | None] = mapped_column(BigInteger)
    committed_extrinsic: Mapped[int | None] = mapped_column(Integer)  # its index in that block
    reveal: Mapped[JsonColumn | None]  # the payload on chain, and the signed answer that opens it
    manifest: Mapped[str | None] = mapped_column(Text)  # exact text; its digest was committed on chain
    manifest_sha256: Mapped[str | None] = mapped_column(String(64))
    failure: Mapped[JsonColumn | None]


class MeasurementRow(LedgerTable):
    """One entrant of one task on the held-out rows, by one version of one metric. Written once, never changed."""

    __tablename__ = "measurements"

    task_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    entrant: Mapped[str] = mapped_column(String(64), primary_key=True)
    metric: Mapped[str] = mapped_column(String(64), primary_key=True)
    metric_version: Mapped[int] = mapped_column(Integer, primary_key=True)
    unit: Mapped[str] = mapped_column(String(32))
    better: Mapped[str] = mapped_column(String(8))
    value: Mapped[float] = mapped_column(Float)
    stderr: Mapped[float] = mapped_column(Float)
    per_row: Mapped[list[float]] = mapped_column(JSON)
    extras: Mapped[JsonColumn]
    fingerprint: Mapped[JsonColumn | None]
    measured_at: Mapped[float] = mapped_column(Float)


class PlacingRow(LedgerTable):
    """One miner's points in one task. Written once, together with the state SCORED."""

    __tablename__ = "placings"
    __table_args__ = (Index(None, "scored_at"), Index(None, "deadline_block"))

    task_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    hotkey: Mapped[str] = mapped_column(String(64), primary_key=True)
    task_type: Mapped[str] = mapped_column(String(32))
    rank: Mapped[int | None] = mapped_column(Integer)
    points: Mapped[float] = mapped_column(Float)
    adjusted_points: Mapped[float] = mapped_column(Float)
    gain: Mapped[float | None] = mapped_column(Float)
    copy_of: Mapped[str | None] = mapped_column(String(64))
    fault: Mapped[str] = mapped_column(String(16), default="", server_default="")
    reason: Mapped[str] = mapped_column(Text)
    factor: Mapped[float] = mapped_column(Float, default=1.0, server_default="1")
    deadline_block: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    rules_version: Mapped[int] = mapped_column(Integer)
    scored_at: Mapped[float] = mapped_column(Float)


class OutboxRow(LedgerTable):
    """A chain call that was decided on; `key` makes it happen once."""

    __tablename__ = "outbox"
    __table_args__ = (Index(None, "decided_at_block"),)

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    payload: Mapped[JsonColumn]
    decided_at_block: Mapped[int] = mapped_column(BigInteger)
    sent_at_block: Mapped[int | None] = mapped_column(BigInteger)  # written before sending
    receipt: Mapped[JsonColumn | None]
    sent: Mapped[JsonColumn | None]  # what went to the chain: uids, u16 values, limits that changed them
    problem: Mapped[str] = mapped_column(Text, default="")


class RecordRow(LedgerTable):
    """A link of the public record. Written once, never changed."""

    __tablename__ = "records"
    __table_args__ = (Index(None, "subject", unique=True),)

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(16))
    subject: Mapped[str] = mapped_column(String(64))  # the task, or the outbox row, that it speaks of
    sha256: Mapped[str] = mapped_column(String(64))
    content: Mapped[str] = mapped_column(Text)  # the whole record as canonical JSON


class OpenBlobRow(LedgerTable):
    """Bytes that anybody may have, because the public record names them."""

    __tablename__ = "open_blobs"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)


class EventRow(LedgerTable):
    """What happened, in order; written in the transaction that made it happen."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    at: Mapped[float] = mapped_column(Float)
    task_id: Mapped[str | None] = mapped_column(String(32), index=True)
    name: Mapped[str] = mapped_column(String(48))
    fields: Mapped[JsonColumn]


class SlotRow(LedgerTable):
    """A slot of the schedule that has had its task."""

    __tablename__ = "slots"

    slot: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    task_id: Mapped[str] = mapped_column(String(32))


class UploadRow(LedgerTable):
    """A customer's claim on an uploaded file."""

    __tablename__ = "uploads"
    __table_args__ = (Index(None, "name"),)

    customer: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(80), primary_key=True)  # digest and ending
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[float] = mapped_column(Float)  # uploaded, or named in a spec


class UnfinishedUploadRow(LedgerTable):
    """An upload that comes piece by piece; once it is whole, what it is called as a data set."""

    __tablename__ = "unfinished_uploads"
    __table_args__ = (Index(None, "customer", "created_at"), Index(None, "touched_at"))

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    customer: Mapped[str] = mapped_column(String(64))
    file_name: Mapped[str] = mapped_column(String(255))  # as the customer calls it
    size_bytes: Mapped[int] = mapped_column(BigInteger)  # announced, and held for it until it is whole
    sha256: Mapped[str | None] = mapped_column(String(64))  # announced
    created_at: Mapped[float] = mapped_column(Float)
    touched_at: Mapped[float] = mapped_column(Float)  # when bytes came last
    name: Mapped[str | None] = mapped_column(String(80))  # of the whole file; None until then


class ApiKeyRow(LedgerTable):
    """A customer's key, by its digest only."""

    __tablename__ = "api_keys"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    customer: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Float)
    revoked_at: Mapped[float | None] = mapped_column(Float)
    name: Mapped[str] = mapped_column(String(64), default="", server_default="")  # for people
    scopes: Mapped[str] = mapped_column(String(64), default="read submit", server_default="read submit")
    expires_at: Mapped[float | None] = mapped_column(Float)


class IdempotencyKeyRow(LedgerTable):
    """A key under which a customer has posted a task; whoever posts with it again gets the same one."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index(None, "used_at"),)

    customer: Mapped[str] = mapped_column(String(64), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_sha256: Mapped[str] = mapped_column(String(64))
    task_id: Mapped[str] = mapped_column(String(32))
    used_at: Mapped[float] = mapped_column(Float)
