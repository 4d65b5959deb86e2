"""Rows of a hub's data set, through `datasets` in a process of its own: slow to import, and whatever it reads stays out of the daemon.

Data files only: the library has run no data set scripts since version 4. The process gets no credentials unless the hub is
huggingface.co, and works in an empty folder, since the library takes a name that is a folder for one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import gradients
from gradients.config import hub_environment
from gradients.errors import DatasetInvalid, OutsideError
from gradients.tasks.base import Row
from gradients.tasks.sources import FileSource, Limits, read_rows

FETCH_SECONDS = 1800.0
EXIT_UNREACHABLE, EXIT_REFUSED = 3, 4


def fetch_rows(repo: str, revision: str, split: str, *, limits: Limits) -> list[Row]:
    """All rows of one split. Raises DatasetInvalid when there is no such data set, OutsideError when the hub does not answer."""
    with tempfile.TemporaryDirectory(prefix="gradients-hub-") as folder:
        target = Path(folder) / "rows.jsonl"
        arguments = [repo, revision, split, str(limits.rows), str(limits.bytes), str(target)]
        try:
            run = subprocess.run(  # noqa: S603 (our own module, arguments checked by the source's schema)
                [sys.executable, "-m", "gradients.tasks.hub", *arguments],
                env=hub_environment() | {"PYTHONPATH": str(Path(gradients.__file__).parents[1])},
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=FETCH_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise OutsideError(f"The data set {repo} could not be fetched in {FETCH_SECONDS:.0f} s") from error
        problem = run.stderr.strip().splitlines()[-1:] or ["no reason given"]
        if run.returncode == EXIT_REFUSED:
            raise DatasetInvalid(
                f"The data set {repo}@{revision}#{split} cannot be used: {problem[0].rstrip('.')}",
                fix="Check name, revision and split, or upload its rows as a file",
            )
        if run.returncode:
            raise OutsideError(f"The data set {repo} could not be fetched: {problem[0]}", fix="Is the hub reachable?")
        return read_rows(FileSource(path=target), limits=limits)


def _download(repo: str, revision: str, split: str, *, rows: int, size: int, target: Path) -> None:
    """Write the split as JSON lines, stopping at the first row too many."""
    from datasets import load_dataset

    stream = load_dataset(repo, revision=revision, split=split, streaming=True)
    written = 0
    with target.open("w", encoding="utf-8") as file:
        for number, row in enumerate(stream, start=1):
            line = json.dumps(row, ensure_ascii=False, default=str)
            written += len(line)
            if number > rows or written > size:
                raise ValueError(f"it has more than {rows:,} rows or {size:,} bytes")
            file.write(line + "\n")


def _main(arguments: list[str]) -> int:
    repo, revision, split, rows, size, target = arguments
    try:
        _download(repo, revision, split, rows=int(rows), size=int(size), target=Path(target))
    except Exception as error:  # the parent raises it again, with whose fault it is
        print(f"{error}".replace("\n", " "), file=sys.stderr)  # noqa: T201 (the parent reads it)
        return EXIT_REFUSED if _is_the_data_sets(error) else EXIT_UNREACHABLE
    return 0


def _is_the_data_sets(error: Exception) -> bool:
    """Whether another try would end the same way: no such data set, nothing in it that can be read, or a script."""
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DatasetsError

    lasting = isinstance(error, ValueError | TypeError | DatasetsError | EmptyDatasetError)
    return lasting or (isinstance(error, RuntimeError) and "scripts" in str(error))


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
