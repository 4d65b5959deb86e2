"""What a node of the cluster is told, by variables of its environment: GRADIENTS_WORKER_FOLDER and GRADIENTS_WORKER_KEPT_GIBIBYTES."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from gradients.config import Place


class NodeSettings(BaseSettings):
    """Where a node keeps what it fetched, and how much."""

    model_config = SettingsConfigDict(env_prefix="GRADIENTS_WORKER_", frozen=True, extra="ignore")

    folder: Place = Field(default=Path("~/.cache/gradients/worker"), description="fetched files and jobs' folders")
    kept_gibibytes: float = Field(default=200.0, gt=0, description="fetched files in all; what is used least goes")
    keep_seconds: float = Field(default=300.0, ge=0, description="time that a worker keeps a base without a job")
