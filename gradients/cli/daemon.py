"""What both daemons do before they begin: say how they log, keep a second one out of their folder, and strangers out of their files."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

from gradients.cli.main import USUAL_COLLECTIONS
from gradients.config import DaemonSettings
from gradients.files.locks import only_one
from gradients.files.private import make_private, write_privately
from gradients.log import configure_logging, get_logger


def run_daemon(settings: DaemonSettings, daemon: Callable[[], Coroutine[Any, Any, None]], *, what: str) -> None:
    """Run the coroutine that `daemon` makes until it ends. Raises SetupError when another `what` has the folder."""
    configure_logging(style=settings.log.style, level=settings.log.level)
    write_privately()
    with only_one(settings.folder, what=what):
        if opened := make_private(settings.folder):
            get_logger(what).warning("folder_made_private", folder=str(settings.folder), were_open=opened)
        asyncio.run(daemon())


def settle() -> None:
    """Leave what there is now out of every later collection of garbage: what was imported stays, and is a tenth of a second's walk."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*USUAL_COLLECTIONS)
