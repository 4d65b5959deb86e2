"""The chain of records: signatures, digests, no gaps, one validator."""

from __future__ import annotations

from gradients.audit.report import Checks
from gradients.record.models import FIRST_PREVIOUS, Record
from gradients.record.sealing import digest_of, is_signed


def check_link(record: Record, before: Record | None, checks: Checks, *, validator: str | None) -> None:
    """Whether a record follows the one before it, unchanged since it was signed.

    Args:
        validator: whose record it has to be; of whoever signed the first one where that is not known.
    """
    checks.equal("sha256", record.sha256, digest_of(record))
    checks.holds("signature", is_signed(record), record.signature, "not a signature of the sha256 by this validator")
    expected = validator or (before.validator if before else record.validator)
    checks.equal("validator", record.validator, expected)
    checks.equal("seq", record.seq, before.seq + 1 if before else 1)
    checks.equal("previous_sha256", record.previous_sha256, before.sha256 if before else FIRST_PREVIOUS)
