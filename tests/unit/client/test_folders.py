"""Folders as uploads: what the validator reads of the file is what it would read of the folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from gradients.client.folders import as_file
from gradients.datasets.reading import read_rows
from gradients.datasets.rows import Row
from gradients.datasets.sources import FileSource
from gradients.errors import DatasetInvalid, SetupError

ROWS = [{"prompt": f"How much is {n}?", "answer": n, "tags": ["a", str(n)], "ratio": n / 3} for n in range(100)]
PNG = b"\x89PNG of "


def rows_of(path: Path) -> Sequence[Row]:
    return read_rows(FileSource(path=path))


def uploaded(path: Path) -> Sequence[Row]:
    with as_file(path) as file:
        return rows_of(file)


def captioned(folder: Path, *, listed: bool) -> Path:
    """Two images in a folder of their own, with texts beside them or a metadata file; and what a system leaves there."""
    inner = folder / "pictures"
    inner.mkdir(parents=True)
    for name in ("one", "two"):
        (inner / f"{name}.png").write_bytes(PNG + name.encode())
        if not listed:
            (inner / f"{name}.txt").write_text(f"caption {name}", encoding="utf-8")
    if listed:
        lines = [{"file_name": f"{name}.png", "caption": f"caption {name}"} for name in ("two", "one")]
        (inner / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / ".DS_Store").write_bytes(b"left")
    (folder / "notes.pdf").write_bytes(b"beside")
    return folder


@pytest.mark.parametrize("listed", [False, True])
def test_a_folder_of_images_is_an_archive_of_them(listed: bool, tmp_path: Path) -> None:
    folder = captioned(tmp_path / "set", listed=listed)
    assert uploaded(folder) == rows_of(folder)
    assert {row["caption"] for row in uploaded(folder)} == {"caption one", "caption two"}


def test_the_same_folder_of_images_makes_the_same_archive(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "set", listed=False)
    contents = []
    for _ in range(2):
        (folder / "pictures" / "one.png").touch()
        with as_file(folder) as file:
            contents.append(file.read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("parts", [1, 3])
def test_a_folder_that_datasets_saved_is_a_file_of_the_same_rows(parts: int, tmp_path: Path) -> None:
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved", num_shards=parts)
    assert uploaded(tmp_path / "saved") == rows_of(tmp_path / "saved") == ROWS


def test_a_folder_of_splits_is_refused_with_their_names(tmp_path: Path) -> None:
    splits = DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS)})
    splits.save_to_disk(tmp_path / "saved")
    with pytest.raises(DatasetInvalid, match="several splits: test, train"):
        uploaded(tmp_path / "saved")
    assert uploaded(tmp_path / "saved" / "train") == ROWS


def test_a_file_is_itself_and_what_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("{}")
    with as_file(file) as same:
        assert same == file
    with pytest.raises(SetupError, match=r"no file or folder .*nothing"), as_file(tmp_path / "nothing"):
        pass


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(DatasetInvalid, match="neither images nor rows") as caught, as_file(tmp_path):
        pass
    assert "Name a JSON" in str(caught.value.fix)


def test_what_is_wrong_with_a_folder_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "set", listed=False)
    (folder / "pictures" / "one.txt").write_bytes(b"\xff")
    with pytest.raises(DatasetInvalid, match=r"caption of pictures/one\.png is not UTF-8"), as_file(folder):
        pass
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    [part] = (tmp_path / "saved").glob("*.arrow")
    part.write_bytes(part.read_bytes()[:500])
    with pytest.raises(DatasetInvalid, match="is not a valid Arrow stream"), as_file(tmp_path / "saved"):
        pass
