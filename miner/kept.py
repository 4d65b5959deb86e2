"""What a miner keeps, for backups."""

from __future__ import annotations

from gradients.backup.kept import Kept
from miner.journal import RECORD, Journal
from miner.settings import MinerSettings

OF_VALIDATORS = ("ledger.db", "api.key")  # which have a folder of tasks, too


def kept(settings: MinerSettings) -> Kept:
    """Records of what was promised, before the rows, checkpoints and repos that they name."""
    folder = settings.folder
    return Kept(
        role="miner",
        folder=folder,
        records=(f"tasks/*/{RECORD}", "*.toml"),
        scratch=(),
        database=None,
        was_here=any((folder / sign).exists() for sign in ("tasks", ".lock"))
        and not any((folder / sign).exists() for sign in OF_VALIDATORS),
        refuse_unknown=lambda _revision: None,
        check=lambda folder: Journal(folder / "tasks"),
    )
