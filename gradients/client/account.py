"""A customer's keys and limits over HTTP: part of the contract, version 1."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from gradients.client.models import Answer, Shown
from gradients.domain.customer import USUAL_SCOPES, Scope

LONGEST_KEY_DAYS = 3650.0


class NewKey(Shown):
    """A key that is wanted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="", max_length=64, description="for people, such as the program that will use it")
    scopes: tuple[Scope, ...] = Field(
        default=USUAL_SCOPES,
        min_length=1,
        max_length=len(Scope),
        description="what it may be used for: 'read' to look at tasks and download models, 'submit' to upload, estimate, post and cancel, "
        "'admin' to make and revoke keys",
    )
    expires_in_days: float | None = Field(
        default=None, gt=0, le=LONGEST_KEY_DAYS, description="from now; null for a key that stays until it is revoked"
    )


class ApiKey(Answer):
    """A key as it is listed: the key itself is shown when it is made, and never again."""

    id: str = Field(description="what the key is called when it is revoked; the beginning of its sha256")
    name: str = Field(description="for people")
    scopes: tuple[Scope, ...] = Field(description="what it may be used for")
    created_at: float = Field(description="Unix seconds")
    expires_at: float | None = Field(description="from when on it opens nothing, Unix seconds; null for never")
    revoked_at: float | None = Field(
        description="since when it opens nothing, Unix seconds; null where it was not revoked"
    )


class MadeKey(ApiKey):
    """A key that was made just now."""

    key: str = Field(description="the key: keep it, it is not shown again")


class KeyList(Answer):
    """A customer's keys."""

    keys: tuple[ApiKey, ...] = Field(description="newest first, with those that open nothing any more")


class Limit(Answer):
    """How much of something a customer has, and may have."""

    used: int = Field(description="now")
    most: int = Field(description="at most")


class Account(Answer):
    """Who a key belongs to, and how much there is left."""

    customer: str = Field(description="the customer's name, as the operator has given it")
    key: ApiKey = Field(description="the key that was sent")
    running_tasks: Limit = Field(description="tasks that have not ended")
    upload_bytes: Limit = Field(description="uploads that are kept, together")
    requests_per_minute: int = Field(
        description="requests that are answered in a minute, of all the customer's keys together"
    )
