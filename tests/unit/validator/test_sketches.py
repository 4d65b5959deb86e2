"""The secret of fingerprints: drawn once, the same for a season, open only when the season is over."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from gradients.domain.seasons import SEASON_BLOCKS, key_of, season_of
from gradients.errors import OperatorError
from validator.measuring.sketches import SketchSecret


def test_the_secret_is_drawn_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "validator" / "sketch.secret"
    first, again = SketchSecret.kept_in(file), SketchSecret.kept_in(file)
    assert first == again
    assert first != SketchSecret.kept_in(tmp_path / "other" / "sketch.secret")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert first.secret.hex() not in repr(first)


@pytest.mark.parametrize("content", ["", "ab" * 31, "xy" * 32])
def test_a_file_that_holds_no_secret_is_named_and_left_as_it_is(tmp_path: Path, content: str) -> None:
    file = tmp_path / "sketch.secret"
    file.write_text(content)
    with pytest.raises(OperatorError, match=r"sketch\.secret is not a secret"):
        SketchSecret.kept_in(file)
    assert file.read_text() == content


def test_a_key_holds_for_one_base_and_one_season() -> None:
    secret = SketchSecret(b"s" * 32)
    keys = {secret.key(base, season=season) for base in ("a" * 64, "b" * 64) for season in (0, 1)}
    assert len(keys) == 4
    assert secret.key("a" * 64, season=0) == SketchSecret(b"s" * 32).key("a" * 64, season=0)
    assert season_of(SEASON_BLOCKS - 1) == 0
    assert season_of(SEASON_BLOCKS) == 1


def test_an_auditor_computes_the_keys_of_a_season_that_is_over_and_checks_its_hash() -> None:
    secret = SketchSecret(b"s" * 32)
    assert secret.opened(3, at_block=4 * SEASON_BLOCKS - 1) is None
    opened = secret.opened(3, at_block=4 * SEASON_BLOCKS)
    assert opened is not None
    assert hashlib.sha256(bytes.fromhex(opened)).hexdigest() == secret.commitment(3)
    assert key_of(opened, "a" * 64) == secret.key("a" * 64, season=3)
