"""What both daemons do before they begin: say how they log, and keep a second one out of their folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from gradients.config import DaemonSettings
from gradients.files.locks import only_one
from gradients.log import configure_logging


def run_daemon(settings: DaemonSettings, daemon: Callable[[], Coroutine[Any, Any, None]], *, what: str) -> None:
    """Run the coroutine that `daemon` makes until it ends. Raises SetupError when another `what` has the folder."""
    configure_logging(style=settings.log.style, level=settings.log.level)
    with only_one(settings.folder, what=what):
        asyncio.run(daemon())
