"""How a local chain is set up."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class LocalChainSettings(BaseModel):
    """Where the chain listens, how fast it runs, and where it is kept. What concerns subnet 1 counts for a new chain only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="interface to listen on")
    port: int = Field(default=9944, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    block_seconds: float = Field(default=1.0, ge=0.02, le=60, description="seconds between two blocks")
    data: Path | None = Field(default=None, description="folder to keep the chain in; in memory when absent")
    tempo: int = Field(default=20, ge=1, le=50_400, description="blocks per epoch of subnet 1")
    commit_reveal: bool = Field(default=False, description="whether subnet 1 takes sealed weights only")
    weights_rate_limit: int = Field(default=2, ge=0, description="blocks between two weight settings of a validator")
    serving_rate_limit: int = Field(default=1, ge=0, description="blocks between two axon publications of a neuron")
