"""Whether sandboxes work on this machine, and if not why not and what to do."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from gradients.errors import SetupError
from gradients.sandbox.bubblewrap import run
from gradients.sandbox.enclosure import Enclosure
from gradients.sandbox.mending import mend
from gradients.sandbox.seccomp import filter_program

PROGRAM = "def main(given):\n    return given\n"
_PATIENCE_SECONDS = 60  # of a machine that is busy; a sandbox takes a tenth of a second


def worker_refusal() -> SetupError | None:
    """Why workers cannot run in a sandbox here, tried with an empty one; None when they can."""
    try:
        enclosure = Enclosure()
        with tempfile.TemporaryFile() as calls:
            calls.write(filter_program(enclosure.filter()))
            calls.seek(0)
            command = [*enclosure.arguments(), "--seccomp", str(calls.fileno()), sys.executable, "-I", "-S", "-c", ""]
            tried = subprocess.run(  # noqa: S603 (bwrap and its arguments are ours)
                command,
                pass_fds=(calls.fileno(),),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PATIENCE_SECONDS,
                check=False,
            )
    except SetupError as error:
        return error
    except subprocess.TimeoutExpired:
        return refusal(f"it had not started within {_PATIENCE_SECONDS} s")
    return refusal(tried.stderr) if tried.returncode else None


def program_refusal() -> SetupError | None:
    """Why strangers' programs cannot run in a sandbox here, tried with one that does nothing; None when they can."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "nothing.py"
        program.write_text(PROGRAM, encoding="utf-8")
        try:
            run(program, None)
        except SetupError as error:
            return error
    return None


def refusal(complaint: str) -> SetupError:
    """The error for a sandbox that could not be set up.

    Args:
        complaint: what bwrap said.
    """
    said = " ".join(complaint.split())[-300:] or "bwrap gave no reason"
    return SetupError(f"The sandbox could not be set up: {said}", code="sandbox_refused", fix=mend(said))
