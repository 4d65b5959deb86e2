"""Every failure of Gradients, and whose it is. A test holds this drawing against the classes; a class that lives elsewhere names its file.

    GradientsError
    ├── MinerError              a miner's own submission or answer; the only kind that may cost a miner points
    │   ├── SubmissionRejected      the repo broke a rule of screening (carries a stable code)
    │   ├── CommitmentMissing       nothing on chain before the deadline that hashes to the submission
    │   ├── SubmissionLate          committed or revealed after its time
    │   └── PeerMisbehaved          an answer that the peer has signed and that is malformed or beside the question
    ├── OperatorError           the machine, settings or code of whoever runs this process, validator or miner
    │   ├── SetupError              wrong settings, no wallet, port in use: refuse to start
    │   ├── DiskFull                no room left
    │   ├── JobFailed               a worker process crashed, ran out of memory or time
    │   │   └── PlanTooLarge            a training's workers ran out of memory: miner/restarts.py
    │   ├── LeaseLost               another owner took the step over; this one must stop
    │   └── LedgerConflict          a state that changed under our feet
    ├── CustomerError           a task that cannot be run as it was asked for
    │   ├── TaskInvalid             the spec breaks its schema
    │   ├── DatasetInvalid          rows are missing, empty, too few or malformed (carries row numbers)
    │   │   └── UploadTooLarge          validator/api/uploads.py
    │   ├── ModelUnknown            the base model cannot be found
    │   ├── ProgramStopped          a customer's program broke a limit: gradients/sandbox/limits.py
    │   ├── KeyRefused              the API key opens nothing: validator/api/dependencies.py
    │   ├── FormRefused             a form of another site or session: validator/pages/sessions.py
    │   ├── TrialRefused            a model that cannot be tried here or now: validator/pages/trying.py
    │   ├── ScopeMissing            the API key may not be used for this: validator/api/dependencies.py
    │   ├── TooManyRequests         more often than a customer may: validator/api/rates.py
    │   ├── TooManyStreams          more tasks followed than a customer may: validator/api/streams.py
    │   ├── TooManyUploads          more unfinished uploads than a customer may: validator/api/resumable.py
    │   ├── UploadUnknown           no such upload in pieces, or none any more: validator/api/resumable.py
    │   ├── UploadConflict          bytes that do not begin where the upload stands: validator/api/resumable.py
    │   ├── UploadBusy              another request writes to the upload: validator/api/writing.py
    │   ├── UploadDamaged           bytes without the checksum that was sent: validator/api/resumable.py
    │   ├── UploadInvalid           a header of an upload that cannot be read: validator/api/tus.py
    │   ├── UploadNotBinary         a piece of another content type: validator/api/tus.py
    │   ├── TusVersionUnknown       another version of the upload protocol: validator/api/tus.py
    │   ├── TooManyTasks            more tasks running than a customer may: validator/ledger/tasks.py
    │   ├── IdempotencyKeyReused    another task was posted under this key: validator/api/posting.py
    │   ├── TaskBegun               too late to cancel a task: validator/ledger/tasks.py
    │   ├── NotFound                no such task of this customer: validator/api/dependencies.py
    │   ├── NoLongerKept            files that were dropped to make room: validator/api/dependencies.py
    │   └── ApiRefused              the validator's API said no (carries its code): gradients/client/answers.py
    └── OutsideError            the network, the chain or a hub; worth another try
        ├── ChainUnreachable        no answer from the chain
        ├── ChainRefused            the chain answered no (carries the chain's error name)
        ├── ChainOutcomeUnknown     sent, and then silence: read the chain before sending again
        ├── PeerUnreachable         no answer from a miner or a validator, or none that it has signed
        ├── PeerRefused             a miner or a validator answered no (carries its code)
        │   ├── Unauthenticated         gradients/axon/auth.py
        │   ├── Forbidden               gradients/axon/auth.py
        │   ├── TooMany                 gradients/axon/transport.py
        │   ├── TooLarge                gradients/axon/transport.py
        │   ├── TooSlow                 gradients/axon/transport.py
        │   └── RangeRefused            gradients/axon/transport.py
        ├── RecordUnreadable        the public record, or a part of it, cannot be had: gradients/record/reading.py
        └── NoncesUnavailable       the shared store of nonces is away: gradients/axon/auth.py

A message says what was being done, with what, and what to do about it. Nothing returns None, False or a string to mean failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from gradients.texts import harmless


class Blame(StrEnum):
    """Whose failure it is. Only `MINER` may cost a miner points. `OPERATOR` is whoever runs the process that says so."""

    MINER = "miner"
    OPERATOR = "operator"
    CUSTOMER = "customer"
    OUTSIDE = "outside"


class GradientsError(Exception):
    """Any failure that the project names. `code` is stable and machine-readable; `fix` says what to do.

    Both texts may quote strangers' files and messages, and go to terminals, ledgers and customers: they are made harmless here.
    """

    blame: Blame = Blame.OPERATOR
    default_code = "error"

    def __init__(self, message: str, *, code: str | None = None, fix: str | None = None) -> None:
        self.message = harmless(message, lines=True)
        super().__init__(self.message)
        self.code = code or self.default_code
        self.fix = harmless(fix, most=1_000, lines=True) if fix else fix

    def __str__(self) -> str:
        return f"{self.message}. {self.fix}" if self.fix else self.message


class MinerError(GradientsError):
    """A miner's own failure."""

    blame = Blame.MINER
    default_code = "miner_failed"


class SubmissionRejected(MinerError):
    """The repo broke a rule of screening; `code` names the rule."""

    default_code = "submission_rejected"


class CommitmentMissing(MinerError):
    """No commitment on chain before the deadline hashes to the submission."""

    default_code = "commitment_missing"


class SubmissionLate(MinerError):
    """Committed or revealed after its time."""

    default_code = "submission_late"


class PeerMisbehaved(MinerError):
    """A peer has signed an answer that is malformed or beside the question. One that it has not signed might be anybody's."""

    default_code = "peer_misbehaved"


class OperatorError(GradientsError):
    """The machine, settings or code of whoever runs this process, validator or miner."""

    blame = Blame.OPERATOR
    default_code = "internal"


class SetupError(OperatorError):
    """Wrong settings, no wallet, a port in use: the process refuses to start."""

    default_code = "setup"


class DiskFull(OperatorError):
    """No room left on the device."""

    default_code = "disk_full"


class JobFailed(OperatorError):
    """A worker process crashed, ran out of memory or ran past its time."""

    default_code = "job_failed"


class LeaseLost(OperatorError):
    """Another owner took the step over; whoever sees this must stop and write nothing more."""

    default_code = "lease_lost"


class LedgerConflict(OperatorError):
    """A ledger row was not in the state that the step expected."""

    default_code = "ledger_conflict"


class CustomerError(GradientsError):
    """A task that cannot be run as it was asked for."""

    blame = Blame.CUSTOMER
    default_code = "task_refused"


class TaskInvalid(CustomerError):
    """The task's spec breaks its schema."""

    default_code = "task_invalid"


class DatasetInvalid(CustomerError):
    """Rows are missing, empty, too few or malformed.

    Args:
        rows: 1-based numbers of the offending rows, the first few of them.
    """

    default_code = "dataset_invalid"

    def __init__(
        self, message: str, *, rows: Sequence[int] = (), code: str | None = None, fix: str | None = None
    ) -> None:
        super().__init__(message, code=code, fix=fix)
        self.rows = tuple(rows)


class ModelUnknown(CustomerError):
    """The base model cannot be found, here or at its hub."""

    default_code = "model_unknown"


class OutsideError(GradientsError):
    """The network, the chain or a hub failed; worth another try."""

    blame = Blame.OUTSIDE
    default_code = "outside"


class ChainUnreachable(OutsideError):
    """No answer from the chain."""

    default_code = "chain_unreachable"


class ChainRefused(OutsideError):
    """The chain answered no; `code` is the chain's own error name in snake case."""

    default_code = "chain_refused"


class ChainOutcomeUnknown(OutsideError):
    """A transaction was sent and no outcome came back: read the chain before sending again."""

    default_code = "chain_outcome_unknown"


class PeerUnreachable(OutsideError):
    """No answer from a miner or a validator in time, or none that it has signed."""

    default_code = "peer_unreachable"


class PeerRefused(OutsideError):
    """A miner or a validator answered no; `code` is its own."""

    default_code = "peer_refused"
