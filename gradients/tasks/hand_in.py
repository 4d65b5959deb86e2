"""What a training has handed in so far: model files in its output folder, and beside its checkpoint what they are worth.

A trainer hands in on its way whatever was best until then, so a worker that dies at its deadline has not run for nothing. The result tells
of the files only while both stand: the one of older files goes before newer files come.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from gradients.files.whole import sync, whole_folder, write_text
from gradients.tasks.jobs.training import TrainResult


class HandIn(BaseModel):
    """What the model files are worth."""

    model_config = ConfigDict(frozen=True)

    digest: str  # of what the training was asked for
    result: TrainResult
    is_final: bool = True  # whether nothing better comes

    def leave(self, checkpoints: Path, output: Path, write: Callable[[Path], None]) -> None:
        """Hand in. Raises DiskFull, and OperatorError (unwritable).

        Args:
            checkpoints: where the training has its checkpoint.
            output: where the model files go, as a whole.
            write: leaves them in a folder.
        """
        with whole_folder(output) as folder:
            write(folder)
            for file in folder.iterdir():
                sync(file)  # which takes longest, and what was handed in before counts as long
            _result(checkpoints).unlink(missing_ok=True)
        self.leave_result(checkpoints)

    def leave_result(self, checkpoints: Path) -> None:
        """Say anew what the files that were handed in are worth. Raises as `leave` does."""
        write_text(_result(checkpoints), self.model_dump_json())

    @classmethod
    def left_in(cls, checkpoints: Path, output: Path) -> HandIn | None:
        """What was handed in last; None where nothing was, as a whole."""
        try:
            left = cls.model_validate_json(_result(checkpoints).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return left if output.is_dir() else None


def _result(checkpoints: Path) -> Path:
    return checkpoints / "result.json"
