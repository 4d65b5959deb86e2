"""Whether this machine has a sandbox, for tests that need one: they skip themselves without it, except in CI, where they fail."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from gradients.errors import SetupError
from gradients.sandbox.bubblewrap import run


def reason_to_skip() -> str:
    """Why tests of the sandbox cannot run here; nothing when they can, or have to."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "nothing.py"
        program.write_text("def main(given):\n    return given\n")
        try:
            run(program, None)
        except SetupError as error:
            return "" if os.environ.get("CI") else f"{error} (scripts/services start installs it)"
    return ""
