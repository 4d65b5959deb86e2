"""What a validator keeps, for backups."""

from __future__ import annotations

from gradients.backup.databases import backend
from gradients.backup.kept import Kept
from validator.folders import Folders
from validator.ledger.examination import refuse_unknown
from validator.settings import ValidatorSettings


def kept(settings: ValidatorSettings) -> Kept:
    """Everything but what workers leave behind."""
    url, folders = settings.resolved_ledger_url(), Folders(settings.folder)
    ledger = settings.folder / "ledger.db"
    return Kept(
        role="validator",
        folder=settings.folder,
        records=(folders.api_key.name, folders.sketch_secret.name, "*.toml"),
        scratch=(folders.workers.name, f"{folders.tasks.name}/*/{folders.jobs('').name}"),
        database=url,
        was_here=folders.api_key.is_file()
        if backend(url) != "sqlite"
        else ledger.is_file() or folders.api_key.is_file(),
        refuse_unknown=lambda revision: refuse_unknown(revision, "the backup"),
        check=lambda _folder: None,
    )
