"""What all customers' commands share: the flags that name a validator, its client, and the shelf of models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gradients.client.api import MarketClient
    from gradients.client.models import Answer
    from gradients.client.shelf import Shelf

Url = Annotated[str | None, typer.Option("--api-url", help="The validator's API. [env: GRADIENTS_API_URL]")]
Key = Annotated[
    str | None,
    typer.Option(
        "--api-key", help="Your API key; by default the one of a validator on this machine. [env: GRADIENTS_API_KEY]"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
TaskArgument = Annotated[str, typer.Argument(help="The task's id, as `gradients task list` shows it.")]


def market(url: str | None, key: str | None) -> MarketClient:
    """The validator's API, as the settings and these flags name it."""
    from gradients.client.api import connect
    from gradients.config import CustomerSettings

    return connect(CustomerSettings().given(url=url, key=key), on_upload=_show_upload)


def _show_upload(name: str, sent: int, size: int) -> None:
    """How far an upload is, on a terminal: in one line, over and over."""
    if sys.stderr.isatty():
        end = "\n" if sent >= size else ""
        share = sent / size if size else 1.0
        sys.stderr.write(f"\r{name}: {share:4.0%} of {size:,} bytes are uploaded{end}")
        sys.stderr.flush()


def shelf(folder: Path | None = None) -> Shelf:
    """Where models lie: in `folder`, or where the settings say."""
    from gradients.client.shelf import Shelf
    from gradients.config import CustomerSettings

    return Shelf(folder.expanduser().absolute() if folder else CustomerSettings().models)


def as_json_text(answer: Answer) -> str:
    """An answer of the API for scripts, in one line."""
    return json.dumps(answer.model_dump(mode="json"))
