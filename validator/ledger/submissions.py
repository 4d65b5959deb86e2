"""Submissions and their measurements. Every write is fenced by the task's lease and happens once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from gradients.clock import Clock
from gradients.domain.chain import AxonAddress
from gradients.domain.evaluation import Measurement
from gradients.domain.failure import Failure
from gradients.domain.json import JsonObject
from gradients.domain.submission import BASE_ENTRANT, Submission, SubmissionState
from validator.ledger.encoding import ROWS_OF, encode, measurement_of, submission_of
from validator.ledger.events import record
from validator.ledger.lease import Lease, fenced
from validator.ledger.rows import EventRow, JsonColumn, MeasurementRow, SubmissionRow
from validator.metrics import FAILURES

CHANGED = "submission_changed"
DROPPED = "model_dropped"
NOTHING: JsonObject = MappingProxyType({})


def add_submissions(session: Session, submissions: Sequence[Submission]) -> None:
    """Write new submissions within a running transaction."""
    session.add_all(
        SubmissionRow(task_id=s.task_id, hotkey=s.hotkey, uid=s.uid, state=s.state, recipe=s.recipe)
        for s in submissions
    )


class Submissions:
    """What miners handed in, task by task."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def of_task(self, task_id: str) -> list[Submission]:
        """All submissions of a task, by uid."""
        query = select(SubmissionRow).where(SubmissionRow.task_id == task_id).order_by(SubmissionRow.uid)
        with Session(self._engine) as session:
            return [submission_of(row) for row in session.scalars(query)]

    def manifest(self, task_id: str, hotkey: str) -> str | None:
        """The exact text of a collected submission's manifest."""
        with Session(self._engine) as session:
            row = session.get(SubmissionRow, (task_id, hotkey))
            return row.manifest if row else None

    def manifests(self, task_id: str) -> dict[str, str]:
        """Hotkey -> the exact text of its manifest, of what was collected of a task."""
        query = select(SubmissionRow.hotkey, SubmissionRow.manifest).where(SubmissionRow.task_id == task_id)
        with Session(self._engine) as session:
            return {hotkey: manifest for hotkey, manifest in session.execute(query) if manifest is not None}

    def started(
        self, lease: Lease, hotkey: str, *, axon: AxonAddress | None = None, our_stake_alpha: float | None = None
    ) -> None:
        """The miner has said, at this address, that it trains, to a validator of this stake."""
        event: JsonObject = {"ip": axon.ip, "port": axon.port} if axon else {}
        if our_stake_alpha is not None:
            event = {**event, "our_stake_alpha": our_stake_alpha}
        self._change(lease, hotkey, state=SubmissionState.STARTED, event=event)

    def started_at(self, task_id: str) -> dict[str, AxonAddress]:
        """Hotkey -> the address at which it has said that it trains."""
        told = [fields for fields in self._changes(task_id) if "ip" in fields]
        return {fields["hotkey"]: AxonAddress(fields["ip"], fields["port"]) for fields in told}

    def started_with(self, task_id: str) -> dict[str, float]:
        """Hotkey -> the stake that we had when the miner has said so, in alpha."""
        told = [fields for fields in self._changes(task_id) if "our_stake_alpha" in fields]
        return {fields["hotkey"]: fields["our_stake_alpha"] for fields in told}

    def drop(self, task_id: str, hotkey: str) -> None:
        """A model's files have gone, to make room. The second time changes nothing."""
        if hotkey not in self.dropped_at(task_id):
            fields: JsonObject = {"hotkey": hotkey}
            with Session(self._engine) as session, session.begin():
                record(session, at=self._clock.now(), name=DROPPED, task_id=task_id, fields=fields)

    def dropped_at(self, task_id: str) -> dict[str, float]:
        """Hotkey -> since when its model's files are no longer kept, of those that are not."""
        query = select(EventRow.fields, EventRow.at).where(EventRow.task_id == task_id, EventRow.name == DROPPED)
        with Session(self._engine) as session:
            return {fields["hotkey"]: at for fields, at in session.execute(query)}

    def dropped_of(self, models: Mapping[str, str]) -> frozenset[str]:
        """Of tasks, each with a hotkey, those in which that miner's model is no longer kept."""
        query = select(EventRow.task_id, EventRow.fields).where(EventRow.name == DROPPED, EventRow.task_id.in_(models))
        with Session(self._engine) as session:
            return frozenset(
                task_id for task_id, fields in session.execute(query) if task_id and models[task_id] == fields["hotkey"]
            )

    def collected(
        self,
        lease: Lease,
        hotkey: str,
        *,
        manifest: str,
        manifest_sha256: str,
        committed_at_block: int,
        committed_extrinsic: int | None = None,
        reveal: JsonObject | None = None,
    ) -> None:
        """The repo is here and screened.

        Args:
            committed_extrinsic: the commitment's index within its block, where the chain tells it.
            reveal: the payload on chain, and the miner's signed answer that opens it.
        """
        fields = {
            "manifest": manifest,
            "manifest_sha256": manifest_sha256,
            "committed_at_block": committed_at_block,
            "committed_extrinsic": committed_extrinsic,
            "reveal": dict(reveal) if reveal else None,
        }
        self._change(lease, hotkey, state=SubmissionState.COLLECTED, fields=fields)

    def failed(self, lease: Lease, hotkey: str, failure: Failure) -> None:
        """The submission has ended without a measurement."""
        self._change(lease, hotkey, state=SubmissionState.FAILED, fields={"failure": encode(failure)})
        FAILURES.labels(failure.blame).inc()

    def measured(self, lease: Lease, measurement: Measurement) -> None:
        """An entrant has a measurement. A second one by the same metric changes nothing."""
        now = self._clock.now()
        key = (lease.task_id, measurement.entrant, measurement.metric.name, measurement.metric.version)
        with Session(self._engine) as session, session.begin():
            fenced(session, lease)
            if session.get(MeasurementRow, key) is not None:
                return
            session.add(_row(lease.task_id, measurement, now))
            if measurement.entrant != BASE_ENTRANT:
                row = session.get_one(SubmissionRow, (lease.task_id, measurement.entrant))
                row.state = SubmissionState.MEASURED
            fields: JsonObject = {"entrant": measurement.entrant, "value": measurement.value}
            record(session, at=now, name="entrant_measured", task_id=lease.task_id, fields=fields)

    def measurements(self, task_id: str) -> dict[str, Measurement]:
        """Entrant -> its measurement."""
        query = select(MeasurementRow).where(MeasurementRow.task_id == task_id)
        with Session(self._engine) as session:
            return {row.entrant: measurement_of(row) for row in session.scalars(query)}

    def _changes(self, task_id: str) -> list[JsonColumn]:
        query = select(EventRow.fields).where(EventRow.task_id == task_id, EventRow.name == CHANGED)
        with Session(self._engine) as session:
            return list(session.scalars(query.order_by(EventRow.id)))

    def _change(
        self,
        lease: Lease,
        hotkey: str,
        *,
        state: SubmissionState,
        event: JsonObject = NOTHING,
        fields: Mapping[str, object] = NOTHING,
    ) -> None:
        with Session(self._engine) as session, session.begin():
            fenced(session, lease)
            row = session.get_one(SubmissionRow, (lease.task_id, hotkey))
            row.state = state
            for name, value in fields.items():
                setattr(row, name, value)
            told: JsonObject = {"hotkey": hotkey, "state": state.value, **event}
            record(session, at=self._clock.now(), name=CHANGED, task_id=lease.task_id, fields=told)


def _row(task_id: str, measurement: Measurement, now: float) -> MeasurementRow:
    return MeasurementRow(
        task_id=task_id,
        entrant=measurement.entrant,
        metric=measurement.metric.name,
        metric_version=measurement.metric.version,
        unit=measurement.metric.unit,
        better=measurement.metric.better,
        value=measurement.value,
        stderr=measurement.stderr,
        per_row=list(measurement.per_row),
        extras={**dict(measurement.extras), **({ROWS_OF: measurement.rows_of} if measurement.rows_of else {})},
        fingerprint=encode(measurement.fingerprint) if measurement.fingerprint else None,
        measured_at=now,
    )
