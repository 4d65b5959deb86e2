"""Writes docs/llms.txt and docs/llms-full.txt: what a validator with the usual settings serves under these names.

python -m scripts.documentation.agents
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from validator.api.agents import Bounds, full_text, summary_text
from validator.api.app import api_app
from validator.api.dependencies import Dependencies
from validator.settings import ApiSettings

DOCS = Path(__file__).parents[2] / "docs"


def usual_bounds() -> Bounds:
    """The limits of a validator whose settings say nothing of them."""
    api = ApiSettings()
    return Bounds(
        running_tasks=api.max_running_tasks_per_customer,
        streams=api.max_streams_per_customer,
        requests_per_minute=api.requests_per_minute,
        upload_bytes=api.max_upload_bytes,
        upload_bytes_in_all=api.max_upload_bytes_per_customer,
    )


def texts() -> dict[str, str]:
    """File name -> text."""
    described = api_app(cast(Dependencies, None)).openapi()  # described only, so that it depends on nothing
    return {"llms.txt": summary_text(), "llms-full.txt": full_text(described, usual_bounds())}


if __name__ == "__main__":
    for name, text in texts().items():
        (DOCS / name).write_text(text, encoding="utf-8")
