"""Pictures with captions: Tango's icons, which Debian packs in 32 x 32 pixels. The shipped base has seen none: it knows Noto's emoji."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gradients.errors import OutsideError, SetupError
from gradients.files.whole import whole_folder
from scripts.benchmarks.recipes.rows import Picture
from scripts.benchmarks.recipes.texts import SOURCES

TANGO = "tango-icon-theme"  # public domain
PIXELS = 32
THUMBNAIL, NEAR = 8, 6.0  # as the task type has it: of two pictures that differ by less at a glance, one is left out
Thumbnail = npt.NDArray[np.float64]  # [8, 8, 3]
_DOWNLOAD_SECONDS = 300


def icons() -> Iterator[Picture]:
    """Tango's, by name; the name is the caption."""
    return captioned(
        sorted(tango().glob(f"usr/share/icons/Tango/{PIXELS}x{PIXELS}/*/*.png"), key=lambda file: file.name)
    )


def captioned(files: Iterable[Path]) -> Iterator[Picture]:
    """The pictures of these files on white, without those that look like one before, mirrored or not."""
    from PIL import Image  # which other tasks do without

    from gradients.datasets.images import as_row, opened

    seen: list[Thumbnail] = []
    for file in files:
        image = opened(file.read_bytes())
        thumbnail = np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), dtype=np.float64)
        apart = (_distance(thumbnail, each) for other in seen for each in (other, other[:, ::-1]))
        if not file.is_symlink() and all(distance >= NEAR for distance in apart):
            seen.append(thumbnail)
            pixels = hashlib.sha256(image.tobytes()).hexdigest()
            yield Picture(file.stem.replace("-", " "), as_row(image), pixels)


def _distance(one: Thumbnail, other: Thumbnail) -> float:
    """Root of the mean squared difference, 0 to 255."""
    return float(np.sqrt(np.square(one - other).mean()))


@cache
def tango() -> Path:
    """Debian's package, downloaded and unpacked once."""
    folder = SOURCES / TANGO
    if not folder.is_dir():
        with whole_folder(folder) as made:
            for command in (["apt-get", "download", "-qq", TANGO], ["sh", "-c", "dpkg -x *.deb . && rm *.deb"]):
                _run(command, made)
    return folder


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, check=False, timeout=_DOWNLOAD_SECONDS, capture_output=True)
    except FileNotFoundError as error:
        raise SetupError(
            f"Debian's package {TANGO} cannot be fetched without {command[0]}",
            fix="Run on Debian, or leave the pictures out with --tasks",
        ) from error
    if done.returncode:
        raise OutsideError(
            f"Debian's package {TANGO} could not be downloaded: {done.stderr.decode().strip()}",
            fix="Run `apt-get update`, or leave the pictures out with --tasks",
        )
