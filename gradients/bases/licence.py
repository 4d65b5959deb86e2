"""Under which licence a base stands, by its own model card: one name out of it, never its words."""

from __future__ import annotations

import re
from pathlib import Path

CARD = "README.md"
_MOST_BYTES = 1_000_000
_FRONT_MATTER = re.compile(rb"---\r?\n(?P<fields>.*?)\r?\n---", re.DOTALL)
# As the hub names licences: https://huggingface.co/docs/hub/repositories-licenses
_LICENCE = re.compile(rb"^license: *[\"']?(?P<name>[a-z0-9][a-z0-9.+-]{1,39})[\"']? *\r?$", re.MULTILINE)


def licence_of(folder: Path) -> str | None:
    """The licence that the card of the base in `folder` names, such as 'apache-2.0'; None where it names none, or there is no card."""
    try:
        with (folder / CARD).open("rb") as file:
            card = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    front = _FRONT_MATTER.match(card)
    found = _LICENCE.search(front["fields"]) if front else None
    return found["name"].decode() if found else None
