"""The customers' HTTP API as an application: routes by API key, health for the operator, one form for every refusal."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from gradients import __version__
from gradients.errors import Blame, GradientsError, TaskInvalid
from validator.api.bodies import SmallBodies
from validator.api.dependencies import Dependencies, KeyRefused, NotFound, Parts
from validator.api.routes import UPLOAD_PATH, router
from validator.api.uploads import UploadTooLarge

STATUS_OF_BLAME = {Blame.CUSTOMER: 422, Blame.OUTSIDE: 503, Blame.OPERATOR: 500, Blame.MINER: 502}
STATUS_OF_ERROR: Mapping[type[GradientsError], int] = {NotFound: 404, KeyRefused: 401, UploadTooLarge: 413}


def api_app(parts: Dependencies) -> FastAPI:
    """The application."""
    app = FastAPI(title="Gradients", version=__version__, docs_url=None, redoc_url=None)
    app.state.parts = parts
    app.include_router(router)
    app.add_exception_handler(GradientsError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_refused)
    app.add_middleware(SmallBodies, but_for=f"{router.prefix}{UPLOAD_PATH}")

    @app.get("/livez")
    async def livez() -> dict[str, bool | str]:
        """Whether the process answers."""
        return {"alive": True, "version": __version__}

    @app.get("/readyz")
    async def readyz(response: Response, parts: Parts) -> dict[str, bool]:
        """Whether the validator can do its work now; 503 when it cannot."""
        ready = parts.ready()
        response.status_code = 200 if ready else 503
        return {"ready": ready}

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return app


async def _on_error(_: Request, error: Exception) -> JSONResponse:
    """A refusal is one JSON object with a stable code, never a stack trace."""
    assert isinstance(error, GradientsError)  # noqa: S101 (what it is registered for)
    status = STATUS_OF_ERROR.get(type(error), STATUS_OF_BLAME[error.blame])
    return JSONResponse({"code": error.code, "message": error.message, "fix": error.fix}, status_code=status)


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (what it is registered for)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return await _on_error(request, TaskInvalid(f"{where}: {first['msg']}"))


async def _on_refused(_: Request, error: Exception) -> JSONResponse:
    """What the framework refuses by itself, such as a path that is not there, in the same form."""
    assert isinstance(error, HTTPException)  # noqa: S101 (what it is registered for)
    body = {"code": f"http_{error.status_code}", "message": str(error.detail), "fix": None}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)
