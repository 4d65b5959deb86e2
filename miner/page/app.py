"""The miner's page: what it trains, how it goes, what became of it and what it earns, for whoever runs the miner.

Covers: a browser that another site leads here; while the page is on loopback, names that are not this machine's are refused. Does not
cover: people. Whoever reaches the port may read, and there is nothing to change. Salts, leaves and files of a submission are on no page.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from gradients.domain.addresses import parsed
from gradients.web.site import Site, add_static
from miner.page.figures import Behind, earnings_of, jobs_of, results_of
from miner.page.gpus import gpus

LINKS = (("/", "Miner"),)


def page_app(behind: Behind, *, host: str) -> FastAPI:
    """The application, to be served at `host`."""
    app = FastAPI(title="Miner", docs_url=None, redoc_url=None, openapi_url=None)
    ip = parsed(host)
    if host == "localhost" or (ip is not None and ip.is_loopback):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", host])
    site = Site.of(Path(__file__).parent / "templates", name="Gradients miner", links=LINKS)
    add_static(app)

    @app.get("/")
    def miner() -> HTMLResponse:
        """Everything there is to see, newest first."""
        return site.page(
            "miner.html",
            active="/",
            block=behind.view.block,
            conditions=behind.conditions.findings,
            hotkey=behind.hotkey,
            recipe=behind.recipe,
            jobs=jobs_of(behind),
            gpus=gpus(),
            results=results_of(behind),
            earnings=earnings_of(behind),
        )

    return app
