"""What a process may reach when it prepares rows that a customer names. Made from the operator's settings, never from a customer's spec."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class S3Access:
    """An object store and the keys to it. Without keys here, those of the machine are taken, as boto3 finds them."""

    endpoint: str | None = None  # None: AWS
    region: str | None = None
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    buckets: frozenset[str] = frozenset()  # read with the keys; every other one is read as strangers may


@dataclass(frozen=True, slots=True)
class Access:
    """Which addresses and stores are in reach."""

    private_addresses: bool = False  # for local networks
    s3: S3Access = S3Access()


@dataclass(frozen=True, slots=True)
class SynthesisEndpoint:
    """A language model that writes synthetic held-out rows, and how many; see synthesis.py."""

    url: str  # as OpenAI's clients name it, such as "http://127.0.0.1:8000/v1"
    model: str
    rows: int
    key: str | None = field(default=None, repr=False)


OUTSIDERS = Access()  # public addresses and public buckets only
