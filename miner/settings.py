"""The miner's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from gradients.config import DaemonSettings, MonitoringSettings, Place, Section, shipped_configs
from gradients.tasks.registry import TYPES

PUBLIC_STAKE_ALPHA = 1000.0  # finney's threshold for a permit: who sets no weights pays nobody, and has no work to give


class PageSettings(Section):
    """Where the miner's own page is; it asks nobody who he is."""

    serve: bool = Field(default=True, description="whether there is a page")
    host: str = Field(
        default="127.0.0.1", description="interface of the page; everybody who reaches it may read what is trained"
    )
    port: int = Field(default=8093, ge=0, le=65535, description="port of the page; 0 takes a free one")


class TrackingSettings(Section):
    """Where the curves of trainings go, beside the miner's own page."""

    kind: Literal["none", "tensorboard", "trackio", "wandb"] = Field(
        default="none", description="who keeps them: none, tensorboard, trackio or wandb (extras of the same name)"
    )
    folder: Place | None = Field(
        default=None, description="where files go; by default `tracking` in the miner's folder"
    )
    project: str = Field(
        default="gradients", pattern=r"^[\w.-]{1,64}$", description="name under which runs are put together"
    )
    online: bool = Field(
        default=False, description="send to wandb's server (WANDB_API_KEY) or trackio's, not only write files"
    )


class KeepSettings(Section):
    """How much of the disk is taken. What a running task needs, or a validator may still ask for, is never dropped."""

    most_bytes: int | None = Field(
        default=None,
        gt=0,
        description="files of tasks in all, by default half of their disk; above it go those of tasks that are over or have failed, "
        "then what committed ones were trained from; tasks that would not fit are declined",
    )
    caches_most_bytes: int | None = Field(
        default=None,
        gt=0,
        description="base models in the cache, by default half of its disk; above it go those unused for six hours, the longest first",
    )


def _recipe_file(given: object) -> object:
    """The shipped recipe of a bare name, such as lora-tuned; anything else is a path."""
    named = str(given)
    is_name = isinstance(given, str | Path) and Path(named).name == named and not Path(named).suffix
    return shipped_configs() / "recipes" / f"{named}.toml" if is_name else given


class MinerSettings(DaemonSettings):
    """Everything a miner can be told."""

    folder: Place = Field(default=Path("~/.gradients/miner"), description="data, checkpoints and repos")
    monitoring: MonitoringSettings = MonitoringSettings()
    recipe: Annotated[Place, BeforeValidator(_recipe_file)] = Field(
        default_factory=lambda: shipped_configs() / "recipes" / "tuned.toml",
        description="how to train: the name of a shipped recipe (see configs/recipes/), or a file of your own",
    )
    task_types: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="kinds of tasks to accept; by default every kind there is"
    )
    concurrent_tasks: int = Field(default=1, ge=1, le=64, description="tasks trained at the same time")
    threads: int = Field(default=1, ge=1, description="CPU threads of a training worker")
    memory_gib: float | None = Field(
        default=None, gt=0, description="memory for training; by default the first GPU's, or the machine's without one"
    )
    max_data_bytes: int = Field(default=2 * 1024**3, gt=0, description="largest train file to fetch")
    max_hours: float = Field(default=48.0, gt=0, description="longest task to accept")
    min_validator_stake_alpha: float | None = Field(
        default=None,
        ge=0,
        description="validators with less are refused; by default 1000, what the chain asks of who sets weights, and 0 on a local network",
    )
    keep_seconds: float = Field(
        default=5.0, ge=1, description="time kept before the deadline for writing and committing, beside three blocks"
    )
    keep_models: bool = Field(
        default=False,
        description="keep models and checkpoints after their reveal has ended, as far as [keep] most_bytes allows",
    )
    allow_local_paths: bool = Field(
        default=False, description="validators may name folders of this machine as bases; for local networks"
    )
    caches: Place | None = Field(
        default=None, description="converted and downloaded bases; by default the user's cache"
    )
    page: PageSettings = PageSettings()
    tracking: TrackingSettings = TrackingSettings()
    keep: KeepSettings = KeepSettings()

    @field_validator("task_types")
    @classmethod
    def _known_types(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        unknown = [name for name in names or () if name not in TYPES]
        if unknown:
            raise ValueError(f"there is no task type '{unknown[0]}'; choose from {', '.join(TYPES)}")
        return names

    def least_stake_alpha(self, *, is_local: bool) -> float:
        """What a validator needs to be answered: alpha plus weighted root stake, as the chain counts it."""
        if self.min_validator_stake_alpha is not None:
            return self.min_validator_stake_alpha
        return 0.0 if is_local else PUBLIC_STAKE_ALPHA

    def accepts(self, task_type: str) -> bool:
        """Whether tasks of this type are taken."""
        return task_type in (TYPES if self.task_types is None else self.task_types)
