"""Documents that lead somewhere, for tests that follow them."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def commands(document: Path) -> list[str]:
    """The commands of a document's blocks marked `sh`, in their order, each in one line and without its comment."""
    blocks = re.findall(r"^```sh\n(.*?)^```", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    whole = re.sub(r"\\\n\s*", "", "".join(blocks))
    return [line.partition(" #")[0].strip() for line in whole.splitlines() if line.strip()]
