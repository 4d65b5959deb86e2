"""Pages that a daemon serves to a browser: templates in which every text is plain text, files of our own, headers that allow nothing else.

Covers: markup in what strangers have written (escaped wherever it is printed), control and direction characters (spelt out), scripts,
styles, frames and forms of other sites (refused by the browser). Does not cover: who may see a page; its route decides that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from gradients import __version__
from gradients.texts import harmless

HERE = Path(__file__).parent
STATIC_PATH = "/static"
LONGEST_TEXT = 20_000  # characters of one value
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class Site:
    """The templates of one daemon over the layout that all share."""

    environment: Environment

    @classmethod
    def of(cls, templates: Path, *, name: str, links: Sequence[tuple[str, str]]) -> Self:
        """The templates of a folder.

        Args:
            name: what stands at the top of every page.
            links: path and words of what the head of every page leads to.
        """
        environment = Environment(
            loader=FileSystemLoader([templates, HERE / "templates"]),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_plain,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "bytes": bytes_text,
            "count": lambda number: f"{number:,}" if number is not None else "",
            "number": number_text,
            "percent": percent_text,
            "signed_percent": lambda share: f"{share:+.1%}" if share is not None else "",
            "short": short,
            "time": time_text,
            "json": lambda value: json.dumps(value, allow_nan=False),
            "json_lines": lambda value: json.dumps(value, ensure_ascii=False, indent=1),
        }
        environment.globals |= {"site_name": name, "links": tuple(links), "version": __version__, "static": _static}
        return cls(environment)

    def page(self, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
        """A template with its values as an answer."""
        html = self.environment.get_template(template).render(values)
        return HTMLResponse(html, status_code=status, headers=dict(HEADERS))


def add_static(app: Starlette) -> None:
    """Serve the files that every page loads; nothing of them comes from another site."""
    app.mount(STATIC_PATH, StaticFiles(directory=HERE / "static"), name="static")


def short(name: str) -> str:
    """The ends of a hotkey; people tell them apart by these."""
    return name if len(name) <= 16 else f"{name[:6]}…{name[-4:]}"


def number_text(value: float | None, digits: int = 4) -> str:
    """A number with fixed digits, or nothing."""
    return f"{value:.{digits}f}" if value is not None else ""


def percent_text(share: float | None, digits: int = 1) -> str:
    """A share in percent, or nothing."""
    return f"{share:.{digits}%}" if share is not None else ""


def bytes_text(count: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in _SIZES[:-1]:
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} {_SIZES[-1]}"


def time_text(seconds: float | None) -> str:
    """A time of the Unix epoch as people read it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC") if seconds is not None else ""


def _plain(value: object) -> object:
    """What a template prints: strangers' text without what a browser would act on beside markup, which is escaped after this."""
    if type(value) is str:  # not Markup, which our own macros have made
        return harmless(value, most=LONGEST_TEXT, lines=True)
    return "" if value is None else value


def _static(name: str) -> str:
    """The path of a file that pages load; a new version is loaded anew."""
    return f"{STATIC_PATH}/{name}?v={__version__}"
