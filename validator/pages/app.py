"""Adds the pages to the application of the API: their routes, the files that they load, and refusals as pages for whoever reads pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gradients.client.models import Refusal
from gradients.errors import GradientsError
from gradients.web.site import Site, add_static
from validator.api.refusals import on_error, on_invalid, on_refused
from validator.pages import account, network, posting, reference, rewards, rows, tasks, trying
from validator.pages.dependencies import Pages, visitor_of

API_PATHS = ("/v1", "/livez", "/readyz", "/metrics", "/openapi.json")
LINKS = (("/", "Overview"), ("/leaderboard", "Leaderboard"), ("/tasks", "Tasks"), ("/new", "Post a task"))

Refuse = Callable[[Request, Exception], Awaitable[Response]]


def site() -> Site:
    """The validator's templates."""
    return Site.of(Path(__file__).parent / "templates", name="Gradients", links=LINKS)


def add_pages(app: FastAPI, pages: Pages) -> None:
    """Serve pages beside the API."""
    app.state.pages = pages
    for module in (network, tasks, rows, trying, posting, rewards, account, reference):
        app.include_router(module.router)
    add_static(app)
    app.add_exception_handler(GradientsError, _readable(on_error, pages))
    app.add_exception_handler(RequestValidationError, _readable(on_invalid, pages))
    app.add_exception_handler(HTTPException, _readable(on_refused, pages))


def _readable(refuse: Refuse, pages: Pages) -> Refuse:
    """The same refusal as a page, for a browser that asks for one; where it is to go elsewhere, it goes."""

    async def refused(request: Request, error: Exception) -> Response:
        refusal = await refuse(request, error)
        wants_page = "text/html" in request.headers.get("accept", "") or "hx-request" in request.headers
        if request.url.path.startswith(API_PATHS) or not wants_page or "location" in refusal.headers:
            return refusal
        said = Refusal.model_validate_json(bytes(refusal.body))
        template = "refusal.html" if "hx-request" in request.headers else "failed.html"
        title = HTTPStatus(refusal.status_code).phrase
        answer = pages.site.page(
            template,
            status=refusal.status_code,
            title=title,
            message=said.message,
            fix=said.fix,
            active="",
            visitor=visitor_of(request, pages),
        )
        if "retry-after" in refusal.headers:
            answer.headers["Retry-After"] = refusal.headers["retry-after"]
        return answer

    return refused
