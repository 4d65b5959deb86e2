"""Files without a name: gone with whoever holds them, however the process ends."""

from __future__ import annotations

import tempfile
import weakref
from typing import IO


def unnamed_file(owner: object) -> IO[bytes]:
    """An empty file in the temporary folder that lives as long as `owner`."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with its owner)
    weakref.finalize(owner, file.close)
    return file
