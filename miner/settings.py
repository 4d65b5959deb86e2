"""The miner's settings."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from gradients.config import DaemonSettings, shipped_configs


class MinerSettings(DaemonSettings):
    """Everything a miner can be told."""

    folder: Path = Field(default=Path("~/.gradients/miner"), description="data, checkpoints and repos")
    recipe: Path = Field(
        default_factory=lambda: shipped_configs() / "recipes" / "lora-tuned.toml",
        description="how to train; see configs/recipes/",
    )
    task_types: tuple[str, ...] = Field(default=("instruct",), description="kinds of tasks to accept")
    concurrent_tasks: int = Field(default=1, ge=1, le=64, description="tasks trained at the same time")
    threads: int = Field(default=1, ge=1, description="CPU threads of a training worker")
    max_data_bytes: int = Field(default=2 * 1024**3, gt=0, description="largest train file to fetch")
    max_hours: float = Field(default=48.0, gt=0, description="longest task to accept")
    min_validator_stake_alpha: float = Field(default=0.0, ge=0, description="validators with less are refused")
    keep_seconds: float = Field(
        default=5.0, ge=1, description="time kept before the deadline for writing and committing, beside three blocks"
    )
    caches: Path | None = Field(default=None, description="converted and downloaded bases; by default the user's cache")

    def resolved_folder(self) -> Path:
        """The folder with ~ expanded."""
        return self.folder.expanduser()
