"""Links of a chain: each names the digest of the one before it and is signed by the validator's hotkey.

Covers: that nothing was changed, left out or put in between afterwards, for whoever has seen a later link. Does not cover: two chains by
one hotkey, shown to different people; mirrors that compare notes find them.
"""

from __future__ import annotations

import hashlib
from typing import Any, cast

from bittensor.sp_core import Keypair

from gradients.domain.json import JsonObject, canonical
from gradients.record.models import FORMAT, Kind, Part, Record

_UNSIGNED = {"sha256", "signature"}


def sealed(keypair: Any, *, seq: int, kind: Kind, previous_sha256: str, body: Part) -> Record:  # noqa: ANN401
    """The next link. `keypair` is bittensor's, which carries no types."""
    content = {
        "format": FORMAT,
        "seq": seq,
        "kind": kind,
        "validator": keypair.ss58_address,
        "previous_sha256": previous_sha256,
        "body": body.model_dump(mode="json"),
    }
    digest = _digest(content)
    signature = "0x" + bytes(keypair.sign(_signed_bytes(digest))).hex()
    return Record.model_validate({**content, "sha256": digest, "signature": signature})


def digest_of(record: Record) -> str:
    """What the record's sha256 has to be."""
    return _digest(record.model_dump(mode="json", exclude=_UNSIGNED))


def is_signed(record: Record) -> bool:
    """Whether the signature over the record's sha256 is that of the hotkey it names."""
    try:
        key = cast(Any, Keypair)(ss58_address=record.validator)
        return bool(key.verify(_signed_bytes(record.sha256), bytes.fromhex(record.signature.removeprefix("0x"))))
    except ValueError:  # not an address, not hex, or not a signature's length
        return False


def _digest(content: JsonObject) -> str:
    return hashlib.sha256(canonical(content)).hexdigest()


def _signed_bytes(sha256: str) -> bytes:
    """What is signed: the digest, and what it is one of, so that it is a signature of nothing else."""
    return f"{FORMAT}:{sha256}".encode()
