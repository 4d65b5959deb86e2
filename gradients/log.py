"""Structured logs: an event name from a fixed vocabulary plus fields; people get text, machines get JSON lines.

info: a state changed. warning: someone should look. error: something is lost.
"""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog
from structlog.stdlib import BoundLogger
from structlog.typing import EventDict, Processor

Format = Literal["text", "json"]


def configure_logging(*, style: Format, level: str = "info") -> None:
    """Send every log line of this process to standard error, as text or as JSON lines."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering: list[Processor] = (
        [structlog.processors.JSONRenderer()]
        if style == "json"
        else [_on_one_line, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _on_one_line(_: object, __: str, line: EventDict) -> EventDict:
    """Texts of several lines, such as what a worker has left on stderr, as one, so that grep finds all of it; stack traces stay."""
    for name, value in line.items():
        if name != "exception" and isinstance(value, str) and "\n" in value:
            parts = (part.strip() for part in value.splitlines())
            line[name] = " | ".join(part for part in parts if part.strip("^~ "))
    return line


def get_logger(name: str) -> BoundLogger:
    """The logger of one component; `name` appears in every line as `component`."""
    logger: BoundLogger = structlog.get_logger(component=name)
    return logger
