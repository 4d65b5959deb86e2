"""Who looks at a page: a cookie that no script can read names a session, and the API key behind it never leaves this process.

Covers: forms of other sites (SameSite, the Origin header, and a token in each form), a cookie that was copied out of a browser's files
(it is no key, and ends by the server's clock). A key that is revoked opens nothing from then on, for pages too. Sessions lie in memory:
a restart of the validator signs everybody out. Does not cover: a network that reads along; that is the TLS proxy's part.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from gradients.clock import Clock
from gradients.domain.json import Json
from gradients.errors import CustomerError

COOKIE = "gradients_session"
HOURS = 12
TALK_HOURS = 1  # that answers may be looked at before a vote
MOST_KEPT = 10_000  # values; the oldest gives way
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class FormRefused(CustomerError):
    """A form that this site has not given out, or not lately: validator/pages/sessions.py."""

    default_code = "form_refused"


@dataclass(frozen=True, slots=True)
class Kept:
    """A value that a browser may name, and until when."""

    value: Json
    until: float


@dataclass(frozen=True, slots=True)
class Sessions:
    """What browsers name by a token that nobody can guess."""

    clock: Clock
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    kept: dict[str, Kept] = field(default_factory=dict, repr=False)  # by token, the oldest first

    def keep(self, value: Json, *, hours: float) -> str:
        """A token for a value that stays so long."""
        token = secrets.token_urlsafe(32)
        self.kept[token] = Kept(value, self.clock.now() + hours * 3600)
        while len(self.kept) > MOST_KEPT:
            self.kept.pop(next(iter(self.kept)), None)
        return token

    def find(self, token: str) -> Json:
        """What a token stands for; None for one that is unknown or has ended."""
        found = self.kept.get(token)
        return found.value if found is not None and found.until > self.clock.now() else None

    def sign_in(self, request: Request, response: Response, key: str) -> None:
        """Give the browser a session."""
        response.set_cookie(
            COOKIE,
            self.keep(key, hours=HOURS),
            max_age=HOURS * 3600,
            httponly=True,
            samesite="strict",
            secure=not _is_loopback(request),
        )

    def sign_out(self, request: Request, response: Response) -> None:
        """End the session here, and take the cookie away."""
        self.kept.pop(request.cookies.get(COOKIE, ""), None)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")

    def key_of(self, request: Request) -> str | None:
        """The API key of a request's session, or None without one."""
        found = self.find(request.cookies.get(COOKIE, ""))
        return found if isinstance(found, str) else None

    def csrf_token(self, request: Request) -> str:
        """What every form of a session carries."""
        cookie = request.cookies.get(COOKIE, "")
        return hmac.new(self.secret, f"form of {cookie}".encode(), hashlib.sha256).hexdigest()

    def check_form(self, request: Request, token: str) -> None:
        """Raises FormRefused for a form that was not made for this session."""
        check_origin(request)
        if not hmac.compare_digest(token.encode(), self.csrf_token(request).encode()):
            raise FormRefused(
                "This form is not of your session", fix="Load the page again and send the form from there"
            )


def check_origin(request: Request) -> None:
    """Raises FormRefused when a browser says that another site has sent the request."""
    origin, fetched = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    elsewhere = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if elsewhere or fetched in ("cross-site", "same-site"):
        raise FormRefused("Another site has sent this form", fix="Send it from the page of this validator")


def local_path(text: str) -> str:
    """A path of this site to go on to; the first page for whatever leads elsewhere."""
    parts = urlsplit(text)
    is_ours = text.startswith("/") and not text.startswith(("//", "/\\")) and not (parts.scheme or parts.netloc)
    return text if is_ours and text.isprintable() else "/"


def _is_loopback(request: Request) -> bool:
    return (request.url.hostname or "") in LOOPBACK
