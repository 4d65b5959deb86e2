"""How what an extra brings gets into the environment that this runs from.

Never by the name of this distribution: it is on no public index, and whoever put something there under that name would run it on every
machine that had followed the advice.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

DISTRIBUTION = "gradients-subnet"
_OWN_FOLDER = Path(__file__).parents[1]


def how_to_install(*extras: str, package: str = DISTRIBUTION) -> str:
    """The command for this environment: from the sources where they are at hand, else requirement by requirement."""
    if (sources := sources_of(package)) is None:
        return shlex.join(["pip", "install", *_requirements(package, extras)])
    folder, is_editable = sources
    pins = folder / "constraints.txt"
    words = ["pip", "install", *(["-c", str(pins)] if pins.is_file() else []), *(["-e"] if is_editable else [])]
    return shlex.join([*words, f"{folder}[{','.join(extras)}]" if extras else str(folder)])


def sources_of(package: str = DISTRIBUTION) -> tuple[Path, bool] | None:
    """The folder that it was installed from, if it is still there, and whether it runs from there."""
    if package == DISTRIBUTION and (_OWN_FOLDER / "pyproject.toml").is_file():
        return _OWN_FOLDER, True
    origin = origin_of(package)
    folder = Path(unquote(urlsplit(str(origin.get("url", ""))).path))
    if "dir_info" in origin and (folder / "pyproject.toml").is_file():
        return folder, origin["dir_info"] == {"editable": True}
    return None


def origin_of(package: str = DISTRIBUTION) -> dict[str, dict[str, bool] | str]:
    """Where pip had it from, as PEP 610 writes it down; empty for what came from an index, or was not installed."""
    try:
        written = importlib.metadata.distribution(package).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return {}
    return dict(json.loads(written or "{}"))


def _requirements(package: str, extras: tuple[str, ...]) -> list[str]:
    """What the metadata say that these extras need, with versions."""
    marks = {f"{quote}{extra}{quote}" for extra in extras for quote in "'\""}
    lines = [line.partition(";") for line in importlib.metadata.requires(package) or ()]
    return [
        need.strip() for need, _, marker in lines if marks & set(re.findall(r"extra == (['\"][\w-]+['\"])", marker))
    ]
