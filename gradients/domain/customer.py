"""What a customer's API key allows."""

from __future__ import annotations

from enum import StrEnum


class Scope(StrEnum):
    """One kind of request that a key may be used for."""

    READ = "read"  # look at tasks and follow them, download models
    SUBMIT = "submit"  # upload rows, ask for estimates, post and cancel tasks
    ADMIN = "admin"  # make, list and revoke the customer's keys


USUAL_SCOPES = (Scope.READ, Scope.SUBMIT)
