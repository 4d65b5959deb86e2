"""The customers' HTTP API as an application: routes by API key, health for the operator, one form for every refusal."""

from __future__ import annotations

from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gradients import __version__
from gradients.client.standing import Readiness
from gradients.domain.addresses import networks
from gradients.errors import GradientsError
from gradients.monitoring.requests import CountedRequests
from gradients.monitoring.routes import add_health_routes, readiness
from validator.api import agents, key_routes, routes, row_routes, task_routes, tus
from validator.api.bodies import TimedBodies
from validator.api.callers import RequestsPerAddress
from validator.api.dependencies import Dependencies
from validator.api.documented import ABOUT, TAGS, operation_id
from validator.api.record import router as record_router
from validator.api.refusals import Crashes, on_error, on_invalid, on_refused
from validator.settings import ApiSettings

ROUTERS = (
    *(task_routes.submitting, task_routes.reading),
    row_routes.reading,
    *(routes.submitting, routes.reading),
    *(tus.about, tus.router),
    *(key_routes.reading, key_routes.managing),
    record_router,
    agents.router,
)


def api_app(dependencies: Dependencies, settings: ApiSettings = ApiSettings()) -> FastAPI:  # noqa: B008 (frozen)
    """The application."""
    app = FastAPI(
        title="Gradients",
        version=__version__,
        description=ABOUT,
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
        docs_url=None,
        redoc_url=None,
    )
    app.state.dependencies = dependencies
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(GradientsError, on_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_refused)
    app.add_middleware(
        TimedBodies,
        streamed=lambda path: path.endswith(routes.UPLOAD_PATH) or tus.is_piece(path),
        seconds=settings.body_seconds,
        bytes_per_second=settings.upload_bytes_per_second,
    )
    app.add_middleware(
        RequestsPerAddress,
        most=settings.requests_per_address,
        proxies=networks(settings.trusted_proxies),
        header=settings.forwarded_header,
    )
    app.add_middleware(Crashes)
    app.add_middleware(tus.TusResponses)
    app.add_middleware(cast(Any, CountedRequests), server="api")

    def ready() -> Readiness:
        behind: Dependencies = app.state.dependencies
        return readiness(behind.conditions, behind.notes)

    add_health_routes(app, ready)
    return app
