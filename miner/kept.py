"""What a miner keeps, for backups."""

from __future__ import annotations

from gradients.backup.kept import Kept
from miner.journal import RECORD, Journal
from miner.settings import MinerSettings


def kept(settings: MinerSettings) -> Kept:
    """Records of what was promised, before the rows, checkpoints and repos that they name."""
    folder = settings.folder
    return Kept(
        role="miner",
        folder=folder,
        records=(f"tasks/*/{RECORD}", "*.toml"),
        scratch=(),
        database=None,
        was_here=((folder / "tasks").is_dir() or (folder / ".lock").is_file()) and not (folder / "api.key").exists(),
        refuse_unknown=lambda _revision: None,
        check=lambda folder: Journal(folder / "tasks"),
    )
