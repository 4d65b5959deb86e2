"""What is installed, found without importing it: torch alone takes seconds."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator

from gradients import __version__
from gradients.doctor.findings import Finding
from gradients.extras import how_to_install
from gradients.tasks.registry import PACKAGES, missing_packages


def software() -> Iterator[Finding]:
    """Versions, and the packages that training and measuring need."""
    yield Finding("python", "ok", platform.python_version())
    yield Finding("versions", "ok", f"gradients {__version__}, bittensor {importlib.metadata.version('bittensor')}")
    if absent := missing_packages("instruct"):
        advice = f"{how_to_install('train')} where models are trained or measured"
        yield Finding("training", "note", f"not installed: {', '.join(absent)}", advice)
    else:
        shown = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES["language"]]
        yield Finding("training", "ok", ", ".join(shown))
    if absent := missing_packages("diffusion"):
        advice = f"{how_to_install('train', 'image')} for diffusion tasks; miners decline them otherwise"
        yield Finding("images", "note", f"not installed: {', '.join(absent)}", advice)
    else:
        yield Finding("images", "ok", f"diffusers {importlib.metadata.version('diffusers')}")
