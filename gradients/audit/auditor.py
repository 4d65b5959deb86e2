"""A whole record, link by link: everything that one can recompute is recomputed and compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from gradients.audit.commitments import check_commitments
from gradients.audit.evaluation import Evaluator
from gradients.audit.lineage import Won, check_lineage, won
from gradients.audit.links import check_link
from gradients.audit.report import Checks, Report
from gradients.audit.rows import check_opening, check_rows, check_source
from gradients.audit.sample import Sample, without_rows
from gradients.audit.scores import check_draw, check_measurements, check_placings
from gradients.audit.weights import Epochs, check_row, check_weights
from gradients.chain.gateway import ChainGateway
from gradients.datasets.access import OUTSIDERS, Access
from gradients.domain.chain import Commitment
from gradients.domain.seasons import commitment_of, season_of
from gradients.domain.task import Hotkey
from gradients.errors import ChainRefused, GradientsError
from gradients.record.models import Record, SeasonBody, TaskBody, WeightsBody
from gradients.record.reading import RecordSource, RecordUnreadable
from gradients.scoring.contest import SCHEDULED


@dataclass(frozen=True, slots=True)
class Scope:
    """How far an audit goes."""

    rows: bool = True  # fetch rows and check them
    sources: bool = True  # prepare tasks again from the data sets that they name
    reevaluate: int = 0  # so many submissions, drawn by `seed`
    seed: int = 0
    validator: str | None = None  # whose record it has to be
    access: Access = OUTSIDERS


@dataclass(slots=True)
class _Known:
    """What the records so far have said."""

    before: Record | None = None
    tasks: dict[str, TaskBody] = field(default_factory=dict)  # less what nothing later is computed from
    won: dict[str, Won] = field(default_factory=dict)
    sample: Sample = field(default_factory=Sample)
    seasons: dict[int, str] = field(default_factory=dict)  # season -> commitment
    opened: dict[int, str] = field(default_factory=dict)  # season -> secret
    epochs: Epochs = field(default_factory=Epochs)
    weights: list[tuple[str, WeightsBody]] = field(default_factory=list)
    netuid: int | None = None


@dataclass(frozen=True, slots=True)
class Auditor:
    """Audits one validator."""

    source: RecordSource
    scope: Scope = Scope()
    gateway: ChainGateway | None = None  # without one nothing is compared with the chain
    evaluator: Evaluator | None = None  # needed for `Scope.reevaluate`

    async def run(self) -> Report:
        """Everything within the scope. A record that cannot be read is an alarm, too."""
        report, known = Report(), _Known()
        try:
            for record in self.source.records():
                checks = Checks(f"record {record.seq} ({record.kind})")
                check_link(record, known.before, checks, validator=self.scope.validator)
                await self._body(record, known, checks, report)
                known.before = record
                _close(checks, report)
        except RecordUnreadable as error:
            last = known.before.seq if known.before else 0
            checks = Checks(f"record {last + 1}")
            checks.alarm("body", None, str(error))
            _close(checks, report)
        report.bodies = known.tasks
        if known.before is None and not report.alarms:
            report.notes.append("the record is empty")
        await self._newest_weights(known, report)
        await self._reevaluate(known, report)
        return report

    async def _body(self, record: Record, known: _Known, checks: Checks, report: Report) -> None:
        try:
            if record.kind == "task":
                body = TaskBody.model_validate(record.body)
                checks.where = f"record {record.seq} (task {body.task_id})"
                await self._task(body, known, checks, record.validator)
                report.tasks += 1
            elif record.kind == "weights":
                weights = WeightsBody.model_validate(record.body)
                checks.where = f"record {record.seq} (weights of epoch {weights.epoch_block})"
                self._netuid(weights.netuid, known, checks)
                check_weights(weights, known.tasks, known.epochs, checks)
                known.weights.append((checks.where, weights))
                report.epochs += 1
            else:
                season = SeasonBody.model_validate(record.body)
                checks.where = f"record {record.seq} (season {season.season})"
                bound = known.seasons.get(season.season)
                if checks.holds("body.season", bound is not None, season.season, "a season of tasks recorded before"):
                    checks.equal("body.secret", commitment_of(season.secret), bound)
                known.opened[season.season] = season.secret
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            path = ".".join(map(str, ("body", *first["loc"])))
            checks.alarm(path, None, first["msg"])

    async def _task(self, body: TaskBody, known: _Known, checks: Checks, validator: str) -> None:
        self._netuid(body.netuid, known, checks)
        checks.holds("body.task_id", body.task_id not in known.tasks, body.task_id, "a task is recorded once")
        self._customer(body, known, checks)
        season = season_of(body.blocks.deadline_block)
        checks.equal(
            "body.sketch_commitment",
            body.sketch_commitment,
            known.seasons.setdefault(season, body.sketch_commitment),
        )
        on_chain = await self._chain(body, checks) if self.gateway else None
        signer = self.scope.validator or validator
        work: list[Callable[[], None]] = [
            lambda: check_commitments(body, checks, validator=signer, on_chain=on_chain),
            lambda: check_measurements(body, checks),
            lambda: check_opening(body, checks),
            lambda: check_draw(body, known.tasks, checks),
            lambda: check_placings(body, list(known.tasks.values()), checks),
            lambda: check_lineage(body, known.won, checks),
            lambda: known.won.update({body.task_id: won(body)}),
        ]
        if self.scope.rows:
            work.append(lambda: check_rows(body, self.source, checks))
        if self.scope.sources:
            work.append(lambda: check_source(body, checks, access=self.scope.access))
        for check in work:
            try:
                check()
            except Exception as error:  # whatever a record may hold that nobody thought of: it is not as it has to be
                checks.alarm("body", None, f"it cannot be checked: {type(error).__name__}: {error}")
        known.tasks[body.task_id] = without_rows(body)
        if self.scope.reevaluate:
            known.sample.consider(body, checks.where, seed=self.scope.seed, most=self.scope.reevaluate)

    def _netuid(self, netuid: int, known: _Known, checks: Checks) -> None:
        if known.netuid is None:
            known.netuid = self.gateway.netuid if self.gateway else netuid
        checks.equal("body.netuid", netuid, known.netuid)

    def _customer(self, body: TaskBody, known: _Known, checks: Checks) -> None:
        """A customer goes by its first task in the record."""
        first = known.tasks.get(body.customer)
        fits = body.customer in (SCHEDULED, body.task_id) or (first is not None and first.customer == body.customer)
        checks.holds("body.customer", fits, body.customer, "'schedule', this task, or its customer's first one")

    async def _chain(self, body: TaskBody, checks: Checks) -> Mapping[Hotkey, Commitment] | None:
        """What stood on chain at the deadline; block hashes are compared on the way."""
        assert self.gateway is not None  # noqa: S101 (for the type checker: the caller has looked)
        blocks = body.blocks
        checks.equal(
            "body.blocks.deadline_hash", blocks.deadline_hash, await self.gateway.block_hash(blocks.deadline_block)
        )
        for place, entrant in enumerate(body.entrants):
            if entrant.commitment is not None:
                try:
                    found = await self.gateway.block_hash(entrant.commitment.block)
                except ChainRefused as error:
                    checks.alarm(f"body.entrants.{place}.commitment.block", entrant.commitment.block, str(error))
                    continue
                checks.equal(f"body.entrants.{place}.commitment.block_hash", entrant.commitment.block_hash, found)
        try:
            return await self.gateway.commitments(block=blocks.deadline_block)
        except ChainRefused as error:
            checks.note(f"the node has forgotten block {blocks.deadline_block}: {error}")
            return None

    async def _newest_weights(self, known: _Known, report: Report) -> None:
        """Rows against the chain: the newest one's values too, unless they are sealed."""
        if self.gateway is None or not known.weights or known.before is None:
            return
        metagraph = await self.gateway.metagraph()
        validator = self.scope.validator or known.before.validator
        ours = metagraph.by_hotkey(validator)
        if ours is None:
            report.notes.append(f"{validator} is not registered on subnet {metagraph.netuid} now")
        for place, (where, body) in enumerate(known.weights, start=1):
            checks = Checks(where)
            is_newest = place == len(known.weights) and ours is not None and not metagraph.commit_reveal
            on_chain = None
            if is_newest and ours is not None and ours.last_update_block == body.landed_at_block:
                on_chain = await self.gateway.weights_of(ours.uid)
            check_row(body, validator, metagraph, on_chain, checks)
            _close(checks, report)

    async def _reevaluate(self, known: _Known, report: Report) -> None:
        """The sample of submissions, measured again task by task."""
        if not self.scope.reevaluate or self.evaluator is None:
            return
        for where, body, hotkeys in known.sample.by_task():
            checks = Checks(where)
            secret = known.opened.get(season_of(body.blocks.deadline_block))
            try:
                report.reevaluated += await self.evaluator.check(body, hotkeys, checks, season_secret=secret)
            except GradientsError as error:
                checks.note(f"it could not be evaluated again: {error}")
            _close(checks, report)


def _close(checks: Checks, report: Report) -> None:
    report.alarms += checks.found
    report.notes += checks.notes
