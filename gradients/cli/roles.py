"""The two daemons, by name: commands that serve both find their settings here. Nothing of a daemon is imported before it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gradients.config import DaemonSettings

if TYPE_CHECKING:
    from gradients.backup.kept import Kept

SETTINGS = {"validator": "validator.settings:ValidatorSettings", "miner": "miner.settings:MinerSettings"}
KEPT = {"validator": "validator.kept:kept", "miner": "miner.kept:kept"}


def settings_of_role(role: str) -> type[DaemonSettings]:
    """The settings model of a daemon."""
    kind: type[DaemonSettings] = _named(SETTINGS[role])
    return kind


def kept_of_role(role: str, settings: DaemonSettings) -> Kept:
    """What a daemon with these settings keeps."""
    kept: Kept = _named(KEPT[role])(settings)
    return kept


def _named(target: str) -> Any:  # noqa: ANN401 (whatever stands there)
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
