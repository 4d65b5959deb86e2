"""The secret behind fingerprints: a key for each base and season, known to nobody until the season is over.

Who knows a key before can write a copy whose sketch looks like nobody's, or a model whose sketch looks like somebody else's. So a key may
be opened only when no submission is compared by it any more. Winners of earlier tasks are compared with new submissions to the same base,
which needs the same projection: a key holds for a season of about 90 days, and a season's secret is published when it ends. Its hash can
be published when it begins, so that the validator cannot choose another one afterwards.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from gradients.domain.seasons import commitment_of, key_of, season_of
from gradients.errors import OperatorError
from gradients.files.locks import in_turn
from gradients.files.whole import make_folder, write_text


@dataclass(frozen=True, slots=True)
class SketchSecret:
    """What all keys of one validator are derived from."""

    secret: bytes = field(repr=False)  # 32 bytes

    @classmethod
    def kept_in(cls, file: Path) -> Self:
        """The secret in `file`, drawn the first time; only the owner may read it.

        Raises OperatorError when the file holds something else, or cannot be written.
        """
        make_folder(file.parent)
        with in_turn(file.with_name(f".{file.name}.lock")):
            if not file.exists():
                write_text(file, secrets.token_bytes(32).hex(), mode=0o600)
            text = file.read_text(encoding="utf-8").strip()
        if not re.fullmatch("[0-9a-f]{64}", text):
            raise OperatorError(
                f"{file} is not a secret of 64 hexadecimal digits", fix="Restore it, or remove it for a new one"
            )
        return cls(bytes.fromhex(text))

    def key(self, base_digest: str, *, season: int) -> str:
        """The key of all fingerprints of submissions to a base in a season, which goes to workers as `MeasureJob.sketch_key`."""
        return key_of(self._of_season(season).hex(), base_digest)

    def commitment(self, season: int) -> str:
        """SHA-256 of the season's secret, to publish at any time."""
        return commitment_of(self._of_season(season).hex())

    def opened(self, season: int, *, at_block: int) -> str | None:
        """The season's secret in hexadecimal once the season is over, for the record; None before."""
        return self._of_season(season).hex() if season_of(at_block) > season else None

    def _of_season(self, season: int) -> bytes:
        return hmac.new(self.secret, f"sketches of season {season}".encode(), hashlib.sha256).digest()
