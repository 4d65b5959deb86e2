"""The validator's settings. Rules of pay are not settings: see gradients/scoring/rules.py."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from gradients.config import DaemonSettings, Section


class OfferSettings(Section):
    """How tasks are given out."""

    pool_size: int = Field(default=15, ge=1, le=256, description="miners per task")
    answer_seconds: float = Field(default=5.0, gt=0, le=60, description="time for a miner to answer")
    retry_seconds: float = Field(default=15.0, gt=0, description="rest before a task that nobody took is offered again")
    tries: int = Field(default=12, ge=1, le=12, description="offers of one task before it ends without miners")


class CollectSettings(Section):
    """How submissions are fetched."""

    reveal_seconds: float = Field(default=600.0, gt=0, description="time after the deadline to fetch every submission")
    concurrent: int = Field(default=8, ge=1, le=64, description="miners fetched from at the same time")
    retry_seconds: float = Field(
        default=3.0, gt=0, le=60, description="rest before a miner that did not answer is asked again"
    )


class MeasureSettings(Section):
    """How submissions are measured."""

    threads: int = Field(default=1, ge=1, description="CPU threads of the evaluation worker")
    deadline_seconds: float = Field(default=3600.0, gt=0, description="wall time of one evaluation job")


class ApiSettings(Section):
    """Where customers are served, and what they may do."""

    host: str = Field(
        default="127.0.0.1", description="interface of the customers' API; put a TLS proxy in front of it"
    )
    port: int = Field(default=8090, ge=0, le=65535, description="port of the customers' API; 0 takes a free one")
    max_upload_bytes: int = Field(default=2 * 1024**3, gt=0, description="largest data set that may be uploaded")


class ValidatorSettings(DaemonSettings):
    """Everything a validator can be told."""

    folder: Path = Field(default=Path("~/.gradients/validator"), description="ledger, blobs and job folders")
    ledger_url: str | None = Field(default=None, description="SQLAlchemy URL; by default SQLite in the folder")
    caches: Path | None = Field(
        default=None, description="converted and downloaded base models; by default the user's cache"
    )
    seed: int | None = Field(
        default=None, description="makes every salt predictable; refused on any network but a local one"
    )
    offer: OfferSettings = OfferSettings()
    collect: CollectSettings = CollectSettings()
    measure: MeasureSettings = MeasureSettings()
    api: ApiSettings = ApiSettings()

    def resolved_folder(self) -> Path:
        """The folder with ~ expanded."""
        return self.folder.expanduser()

    def resolved_ledger_url(self) -> str:
        """The ledger's URL."""
        return self.ledger_url or f"sqlite:///{self.resolved_folder()}/ledger.db"
