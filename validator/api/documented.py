"""What the API's OpenAPI document says of every route: how it refuses, which parts there are, and how an operation is named."""

from __future__ import annotations

from typing import Any

from fastapi.routing import APIRoute

from gradients.client.models import Refusal

PREFIX = "/v1"
Responses = dict[int | str, dict[str, Any]]  # as FastAPI declares it

REFUSALS: Responses = {
    400: {"model": Refusal, "description": "The request is not one that can be read"},
    401: {"model": Refusal, "description": "The API key is missing or opens nothing"},
    403: {"model": Refusal, "description": "The API key may not be used for this"},
    404: {"model": Refusal, "description": "There is no such path, or it is not this customer's"},
    405: {"model": Refusal, "description": "The path is for another method"},
    408: {"model": Refusal, "description": "The body did not come in time"},
    413: {"model": Refusal, "description": "The body is larger than what is taken"},
    422: {"model": Refusal, "description": "The request cannot be met as it was made"},
    429: {
        "model": Refusal,
        "description": "Too many requests, tasks or streams; where waiting helps, Retry-After says how long",
        "headers": {
            "Retry-After": {"description": "seconds after which to ask again", "schema": {"type": "string"}},
        },
    },
    500: {"model": Refusal, "description": "A failure of the validator's own"},
    503: {"model": Refusal, "description": "A hub or the chain does not answer; worth another try"},
}
NOT_FOUND: Responses = {404: {"model": Refusal, "description": "There is none, or it is not this customer's"}}
GONE: Responses = {410: {"model": Refusal, "description": "It is no longer kept; the message says since when"}}
TAGS = [
    {"name": "tasks", "description": "Ask what a task would take, post it, follow it, take it back."},
    {"name": "data", "description": "Upload rows to train on."},
    {"name": "models", "description": "Get what miners trained, once the task is scored."},
    {"name": "account", "description": "Your keys and limits."},
    {"name": "record", "description": "The public record of scores and weights; for anybody, without a key."},
    {"name": "agents", "description": "Texts for programs that read before they act; without a key."},
    {"name": "health", "description": "For the operator and its monitoring; without a key."},
]
ABOUT = """Post fine-tuning tasks to the miners of a subnet, follow them, and download the best model.

Send your API key as `Authorization: Bearer gr_…`. Every answer that is not a success is one `Refusal`: a stable `code`, a `message`
for people, and a `fix` that says what to do. Fields may be added to answers within version 1; none is removed or changed."""


def operation_id(route: APIRoute) -> str:
    """The operation's name: the function's, which generated clients take for theirs."""
    return route.name
