"""Names of bases that are another task's model: its winner, merged by the validator with the base that it was trained from.

Such a base has no other source than the validator that made it. Customers and validators call it "task:" and the task's id. Whoever has
it from a validator keeps it with the digest in its name, so that no other validator can put another model in its place.
"""

from __future__ import annotations

import re

PREFIX = "task:"
# Of a file of such a base: a plain name, in a pipeline within one folder; nothing that code is kept in.
FILE_PATH = (
    r"^([A-Za-z0-9_-][A-Za-z0-9._-]{0,95}/)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,95}\.(safetensors|json|jinja|model|txt)$"
)
_NAME = re.compile(r"task:(?P<task>[a-z]{2,12}-[0-9a-f]{12})(?P<digest>@[0-9a-f]{64})?", re.ASCII)


def base_after(task_id: str) -> str:
    """What the base is called that is the winner of a task."""
    return f"{PREFIX}{task_id}"


def continued_task(base: str) -> str | None:
    """The task whose winner the base is; None for every other base."""
    match = _NAME.fullmatch(base)
    return match["task"] if match else None


def pinned(base: str, digest: str | None) -> str:
    """Under which name the base is kept here: another task's model with its digest, every other one as it is."""
    match = _NAME.fullmatch(base)
    return f"{base}@{digest}" if match and digest and not match["digest"] else base


def is_pinned(base: str) -> bool:
    """Whether it is another task's model with its digest in its name."""
    match = _NAME.fullmatch(base)
    return bool(match and match["digest"])
