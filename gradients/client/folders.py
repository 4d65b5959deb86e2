"""Folders as files that can be uploaded: captioned images as a zip archive, rows that `datasets` saved as a Parquet file."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from gradients.datasets.image_folders import CAPTION_ENDINGS, IMAGE_ENDINGS, METADATA, folder_rows, has_images
from gradients.errors import DatasetInvalid, SetupError

FORMS = "Name a JSON, JSONL, CSV, Parquet or zip file, a folder of images or one that `datasets` saved, or hub:org/name"
ARROW, DATASETS_STATE, SPLITS = "data-*.arrow", "state.json", "dataset_dict.json"


@contextlib.contextmanager
def as_file(path: Path) -> Iterator[Path]:
    """A file with what is in `path`: itself, or for the body a temporary one. Raises SetupError and DatasetInvalid where that cannot be."""
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise SetupError(f"There is no file or folder {path}", fix=FORMS)
    parts = sorted(path.glob(ARROW)) if (path / DATASETS_STATE).is_file() else []
    if not parts and (path / SPLITS).is_file():
        splits = ", ".join(sorted(inner.name for inner in path.iterdir() if (inner / DATASETS_STATE).is_file()))
        raise DatasetInvalid(f"{path} holds several splits: {splits}", fix=f"Name one of them, such as {path}/train")
    if not parts and not has_images(path):
        raise DatasetInvalid(f"{path} holds neither images nor rows that `datasets` saved", fix=FORMS)
    with tempfile.TemporaryDirectory(prefix="gradients-upload-") as folder:
        yield _rows(parts, Path(folder) / "rows.parquet") if parts else _images(path, Path(folder) / "images.zip")


def _rows(arrow_files: list[Path], target: Path) -> Path:
    """The Arrow streams of a data set as one Parquet file, a batch at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with contextlib.ExitStack() as stack:
        writer: pq.ParquetWriter | None = None
        for file in arrow_files:
            try:
                with pa.OSFile(str(file)) as source, pa.ipc.open_stream(source) as stream:
                    writer = writer or stack.enter_context(pq.ParquetWriter(target, stream.schema))
                    for batch in stream:
                        writer.write_batch(batch)
            except pa.ArrowException as error:
                reason = " ".join(str(error).split())
                raise DatasetInvalid(
                    f"{file} is not a valid Arrow stream: {reason}", fix="Was it copied whole?"
                ) from error
    return target


def _images(folder: Path, target: Path) -> Path:
    """The images, their captions and their metadata; the same folder always makes the same archive."""
    for _ in folder_rows(folder):  # what cannot be read is said here and now
        pass
    wanted = [
        file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in {*IMAGE_ENDINGS, *CAPTION_ENDINGS} or file.name in METADATA
    ]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in wanted:
            if file.is_file() and not file.is_symlink():
                archive.writestr(zipfile.ZipInfo(file.relative_to(folder).as_posix()), file.read_bytes())
    return target
