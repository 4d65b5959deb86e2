"""What an operator's tools ask a daemon without a key: does it live, can it work, which version is it, and its figures."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from enum import Enum

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from gradients import __version__
from gradients.axon.serve import serving
from gradients.client.standing import Condition, Health, Readiness, Version
from gradients.conditions.state import Conditions
from gradients.config import MonitoringSettings
from gradients.errors import SetupError
from gradients.log import get_logger

TAGS: list[str | Enum] = ["health"]  # their part of a document
TEXT = {"schema": {"type": "string"}}

log = get_logger("monitoring")


def readiness(conditions: Conditions, notes: tuple[str, ...] = ()) -> Readiness:
    """What `/readyz` says."""
    states = tuple(
        Condition(name=each.name, level=each.level, found=each.found, advice=each.advice)
        for each in conditions.findings
    )
    return Readiness(ready=conditions.ready(), notes=notes, conditions=states)


def add_health_routes(app: FastAPI, ready: Callable[[], Readiness]) -> None:
    """GET /livez, /readyz, /version and /metrics."""

    @app.get("/livez", tags=TAGS)
    async def livez() -> Health:
        """Whether the process answers."""
        return Health(alive=True, version=__version__)

    @app.get("/readyz", tags=TAGS, responses={503: {"model": Readiness, "description": "It cannot"}})
    async def readyz(response: Response) -> Readiness:
        """Whether the daemon can do its work now, and every condition of it; 503 when it cannot."""
        answer = ready()
        response.status_code = 200 if answer.ready else 503
        return answer

    @app.get("/version", tags=TAGS)
    async def version() -> Version:
        """Which version of the code this is."""
        return Version(version=__version__)

    @app.get("/metrics", tags=TAGS, response_class=Response, responses={200: {"content": {"text/plain": TEXT}}})
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(await asyncio.to_thread(generate_latest), media_type=CONTENT_TYPE_LATEST)


@contextlib.asynccontextmanager
async def monitoring(settings: MonitoringSettings, ready: Callable[[], Readiness]) -> AsyncIterator[None]:
    """Serve these routes on a port of their own for the body. A port that is taken costs the monitoring, not the work."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    add_health_routes(app, ready)
    async with contextlib.AsyncExitStack() as stack:
        try:
            address = await stack.enter_async_context(serving(app, settings.host, settings.port))
        except SetupError as error:
            log.warning("monitoring_off", problem=str(error), remedy="name another port: [monitoring] port")
        else:
            log.info("monitoring_served", url=address.url())
        yield
