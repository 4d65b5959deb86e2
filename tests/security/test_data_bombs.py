"""Small files that would fill the memory: each is refused, by a reader that stays small. Sizes are a tenth of what was tried for real."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

GROWTH = 260 * 1024**2  # of the reader, beside what it imports
READ = """
import resource, sys
from pathlib import Path
import pyarrow.parquet, PIL.Image, numpy
from gradients.errors import DatasetInvalid
from gradients.tasks.preparation import prepare
from gradients.tasks.registry import task_type, validate_request
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
file, kind, folder = sys.argv[1:]
base = "nano-image" if kind == "diffusion" else "nano-lm"
request = validate_request({"type": kind, "base": base, "dataset": file, "hours": 1})
try:
    prepare(task_type(kind), request, salt=b"s", folder=Path(folder))
    said = "it was read"
except DatasetInvalid as error:
    said = str(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024, said)
"""


def _list_of_zeros(file: Path) -> Path:
    """One row with 20 million numbers, in some hundred bytes."""
    zeros = pa.ListArray.from_arrays(pa.array([0, 20_000_000], pa.int32()), pa.array(bytes(20_000_000), pa.uint8()))
    pq.write_table(pa.table({"instruction": zeros, "output": ["x"]}), file.with_suffix(".parquet"), compression="zstd")
    return file.with_suffix(".parquet")


def _one_text_a_million_times(file: Path) -> Path:
    """A dictionary with one text of 100,000 characters, named by a million rows."""
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"instruction": texts, "output": texts}), file.with_suffix(".parquet"))
    return file.with_suffix(".parquet")


def _lists_of_nothing(file: Path) -> Path:
    file.with_suffix(".json").write_text("[" + "[]," * 3_000_000 + "[]]")
    return file.with_suffix(".json")


def _rows_of_nothing(file: Path) -> Path:
    file.with_suffix(".json").write_text("[" + "{}," * 3_000_000 + "{}]")
    return file.with_suffix(".json")


def _one_long_value(file: Path) -> Path:
    file.with_suffix(".json").write_text('[{"instruction": "' + "x" * 30_000_000 + '"}]')
    return file.with_suffix(".json")


def _one_long_line(file: Path) -> Path:
    file.with_suffix(".jsonl").write_text('{"instruction": "' + "x" * 30_000_000 + '"}')
    return file.with_suffix(".jsonl")


def _one_long_cell(file: Path) -> Path:
    file.with_suffix(".csv").write_text("instruction,output\n" + "x" * 30_000_000)
    return file.with_suffix(".csv")


def _one_image_listed_often(file: Path) -> Path:
    Image.new("RGB", (64, 64)).save(file.with_suffix(".png"))
    line = json.dumps({"file_name": "a.png", "caption": "a"}) + "\n"
    with zipfile.ZipFile(file.with_suffix(".zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(file.with_suffix(".png"), "a.png")
        archive.writestr("metadata.jsonl", line * 70_000)
    return file.with_suffix(".zip")


def _very_large_images(file: Path) -> Path:
    """Three of 49 megapixels and a few kilobytes each."""
    Image.new("L", (7000, 7000), 9).save(file.with_suffix(".png"))
    with zipfile.ZipFile(file.with_suffix(".zip"), "w") as archive:
        for name in "abc":
            archive.write(file.with_suffix(".png"), f"{name}.png")
            archive.writestr(f"{name}.txt", name)
    return file.with_suffix(".zip")


BOMBS: dict[Callable[[Path], Path], tuple[str, str]] = {
    _list_of_zeros: ("instruct", "larger than 1,000,000"),
    _one_text_a_million_times: ("instruct", "more than 1,000,000 rows or"),
    _lists_of_nothing: ("instruct", "Row 1 of bomb.json is not an object"),
    _rows_of_nothing: ("instruct", "more than 1,000,000 rows or"),
    _one_long_value: ("instruct", "Row 1 of bomb.json has more than"),
    _one_long_line: ("instruct", "Line 1 of bomb.jsonl has more than"),
    _one_long_cell: ("instruct", "Line 2 of bomb.csv has more than"),
    _one_image_listed_often: ("diffusion", "names more than 1000 images"),
    _very_large_images: ("diffusion", "at least 10 are needed"),
}


@pytest.mark.parametrize("make", BOMBS, ids=lambda make: make.__name__.strip("_"))
def test_a_bomb_is_refused_by_a_reader_that_stays_small(make: Callable[[Path], Path], tmp_path: Path) -> None:
    kind, reason = BOMBS[make]
    command = [sys.executable, "-c", READ, str(make(tmp_path / "bomb")), kind, str(tmp_path / "prepared")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, preexec_fn=_bounded)
    assert done.returncode == 0, done.stderr
    grown, _, said = done.stdout.partition(" ")
    assert reason in said
    assert int(grown) < GROWTH


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (6 * 1024**3, 6 * 1024**3))
