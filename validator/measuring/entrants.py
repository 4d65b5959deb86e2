"""Who is measured in a task: which entrants still lack a result, and what workers have left about them.

Covers: a worker that has read strangers' bytes may leave anything; its files are read when they are plain, bounded and of the known form,
and speak for the entrant that they are named after only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gradients.domain.evaluation import Measurement, Metric
from gradients.domain.failure import Failure
from gradients.domain.submission import BASE_ENTRANT, SubmissionState
from gradients.errors import Blame, OperatorError
from gradients.files.plain import read_plain
from gradients.log import get_logger
from gradients.tasks.jobs.measuring import MOST_RESULT_BYTES, Entrant, EntrantResult
from validator.folders import Folders
from validator.ledger import Ledger
from validator.ledger.lease import Claim

log = get_logger("measure")


@dataclass(frozen=True, slots=True)
class Entrants:
    """The entrants of a claimed task."""

    ledger: Ledger
    folders: Folders
    claim: Claim
    metric: Metric

    @property
    def results(self) -> Path:
        """Where workers leave a file for each."""
        return self.folders.results(self.claim.task.id)

    def missing(self) -> list[Entrant]:
        """Those without a measurement or a failure, the base first; what an earlier process has left is taken."""
        return self.record(self._without_result())

    def record(self, entrants: Sequence[Entrant]) -> list[Entrant]:
        """Write down measurements, and failures of submissions' own; those of whom there was neither. What is our fault is tried again."""
        return [entrant for entrant in entrants if not self._record(entrant)]

    def problem(self, entrant: Entrant) -> str:
        """What the worker said about a failure, if anything."""
        return self._left(entrant).failure_message

    def measured(self, measurement: Measurement) -> None:
        """Write down a measurement."""
        self.ledger.submissions.measured(self.claim.lease, measurement)

    def failed(self, entrant: Entrant, failure: Failure) -> None:
        """Write down that a submission has failed."""
        self.ledger.submissions.failed(self.claim.lease, entrant.id, failure)

    def _without_result(self) -> list[Entrant]:
        task = self.claim.task
        have = self.ledger.submissions.measurements(task.id)
        waiting = [
            Entrant(id=submission.hotkey, folder=self.folders.submission(task.id, submission.hotkey))
            for submission in self.ledger.submissions.of_task(task.id)
            if submission.state is SubmissionState.COLLECTED
        ]
        return [entrant for entrant in [Entrant(id=BASE_ENTRANT), *waiting] if entrant.id not in have]

    def _left(self, entrant: Entrant) -> EntrantResult:
        """What a worker left about an entrant, or a result that says nothing."""
        task = self.claim.task
        file = self.results / f"{entrant.id}.json"
        try:
            left = EntrantResult.model_validate_json(read_plain(file, most_bytes=MOST_RESULT_BYTES))
        except FileNotFoundError:
            return EntrantResult(entrant=entrant.id)
        except (OperatorError, ValidationError) as error:
            log.warning("result_unreadable", task=task.id, entrant=entrant.id, problem=str(error))
            return EntrantResult(entrant=entrant.id)
        return left if left.entrant == entrant.id else EntrantResult(entrant=entrant.id)

    def _record(self, entrant: Entrant) -> bool:
        result = self._left(entrant)
        if result.value is not None and result.stderr is not None and math.isfinite(result.value):
            self.measured(
                Measurement(
                    entrant=result.entrant,
                    metric=self.metric,
                    value=result.value,
                    stderr=result.stderr,
                    per_row=result.per_row,
                    extras=tuple(result.extras.items()),
                    fingerprint=result.fingerprint,
                )
            )
        elif result.failure_blame is Blame.MINER and entrant.id != BASE_ENTRANT:
            failure = Failure(Blame.MINER, result.failure_code, result.failure_message)
            self.failed(entrant, failure)
        else:
            return False
        return True
