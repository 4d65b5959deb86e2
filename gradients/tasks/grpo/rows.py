"""Reads the rows of GRPO tasks that preparation wrote."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from gradients.errors import DatasetInvalid
from gradients.tasks.grpo.spec import GrpoRow


def read_rows(path: Path) -> list[GrpoRow]:
    """The rows of a JSON lines file, in its order. Raises DatasetInvalid that names the first bad line, or when there is none at all."""
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                rows.append(GrpoRow.model_validate_json(line))
            except ValidationError as error:
                raise DatasetInvalid(f"Line {number} of {path.name} is no row: {error}", rows=(number,)) from error
    if not rows:
        raise DatasetInvalid(f"{path.name} holds no rows")
    return rows
