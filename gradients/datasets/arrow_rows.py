"""Rows of Parquet files and of Arrow streams: only wanted columns are converted, and nothing is that would fill the memory.

Covers: sizes that the file declares of itself are looked at before anything is decompressed, and values are counted before they become
Python's; numbers of 32 and 16 bits are written as short as they were. Does not cover: a file that lies about its pages; the memory of
whoever reads it has to have a limit for that.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradients.datasets.rows import Row, numbers
from gradients.datasets.sources import MOST_IMAGE_BYTES
from gradients.datasets.tables import check_columns_differ, read_columns
from gradients.errors import DatasetInvalid

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 256  # decompressed at a time
USUAL_VALUES = 4096  # of one list
REPEATED_BYTES = 16  # of a column for each value, below which most of them must be repeated


def parquet_rows(path: Path, wanted: Collection[str] | None, *, most: int) -> Iterator[Row]:
    """The rows of a Parquet file; cells of columns that are not wanted are empty. Raises DatasetInvalid.

    Args:
        wanted: names among which those of the columns are that the task reads; None: all.
        most: values, and bytes of values, that one row may have.
    """
    import pyarrow.parquet as pq

    with _blaming(path, "Parquet file"):
        metadata = pq.read_metadata(path)
    with _blaming(path, "Parquet file"), pq.ParquetFile(path, read_dictionary=_repeating(metadata)) as file:
        columns = _used(file.schema_arrow.names, wanted, path)
        _check_media(file.schema_arrow, columns, path)
        for group in range(metadata.num_row_groups):
            _check_declared(metadata.row_group(group), columns, path, most)
        first = 1
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
            yield from _rows_of(batch, file.schema_arrow.names, path, first=first, most=most)
            first += batch.num_rows


def arrow_rows(path: Path, wanted: Collection[str] | None, *, most: int) -> Iterator[Row]:
    """The rows of an Arrow stream, such as `Dataset.save_to_disk` writes, as `parquet_rows` gives them."""
    import pyarrow as pa

    with _blaming(path, "Arrow stream"), pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
        columns = _used(stream.schema.names, wanted, path)
        _check_media(stream.schema, columns, path)
        first = 1
        for batch in stream:
            for start in range(0, batch.num_rows, BATCH_ROWS):
                part = batch.select(columns).slice(start, BATCH_ROWS)
                yield from _rows_of(part, stream.schema.names, path, first=first, most=most)
                first += part.num_rows


def _repeating(metadata: pq.FileMetaData) -> list[str]:
    """Columns whose values take less room than they would one by one: each is made into Python's once a batch, however often it stands."""
    chunks = [
        metadata.row_group(group).column(place)
        for group in range(metadata.num_row_groups)
        for place in range(metadata.num_columns)
    ]
    return sorted(
        {
            chunk.path_in_schema
            for chunk in chunks
            if chunk.physical_type == "BYTE_ARRAY"
            and "." not in chunk.path_in_schema
            and chunk.total_uncompressed_size < REPEATED_BYTES * chunk.num_values
        }
    )


def _used(names: Sequence[str], wanted: Collection[str] | None, path: Path) -> list[str]:
    check_columns_differ(names, path.name)
    return read_columns(names, wanted)


def _check_declared(group: pq.RowGroupMetaData, columns: Sequence[str], path: Path, most: int) -> None:
    """Values of lists are counted in the file's own index: a few hundred bytes may hold millions of them."""
    for place in range(group.num_columns):
        column = group.column(place)
        if column.path_in_schema.split(".")[0] in columns and column.num_values > most + USUAL_VALUES * group.num_rows:
            raise _huge(path, column.path_in_schema.split(".")[0], most)


def _check_media(schema: pa.Schema, columns: Collection[str], path: Path) -> None:
    """Raises DatasetInvalid for sound, films and other media, of which `datasets` notes the kind beside the schema."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        kinds = {str(name): str(feature.get("_type", "")) for name, feature in features.items()}
    except (ValueError, LookupError, TypeError, AttributeError):  # nothing is noted, or nothing that can be read
        return
    for column in columns:
        if column in kinds and _is_file(schema.field(column).type) and kinds[column] != "Image":
            raise DatasetInvalid(
                f"{path.name}: column '{column}' holds media that cannot be used ({kinds[column][:40]})",
                fix="Map another column, or leave it out",
            )


def _is_file(kind: pa.DataType) -> bool:
    """Whether cells are files as `datasets` keeps them: their bytes, or where they lie."""
    import pyarrow.types as types

    return types.is_struct(kind) and {kind.field(place).name for place in range(kind.num_fields)} == {"bytes", "path"}


def _as_base64(value: Mapping[str, Any] | None) -> str | None:  # Any: bytes or text
    """A file's bytes as text. Nothing is opened that a cell names. Raises ValueError for a file that is only named."""
    if value is None:
        return None
    if not isinstance(value["bytes"], bytes):
        raise ValueError("it names images outside of the data set")
    if len(value["bytes"]) > MOST_IMAGE_BYTES:
        raise ValueError(f"it has an image of more than {MOST_IMAGE_BYTES:,} bytes")
    return base64.b64encode(value["bytes"]).decode()


def _rows_of(batch: pa.RecordBatch, names: Sequence[str], path: Path, *, first: int, most: int) -> Iterator[Row]:
    if batch.nbytes > most:
        for place in range(batch.num_rows):
            if batch.slice(place, 1).nbytes > 4 * most:  # bytes of values, which may be numbers of eight
                raise _huge(path, "", most, rows=[first + place])
    columns = {name: _values(batch.column(name), name, path, first) for name in batch.schema.names}
    for place in range(batch.num_rows):
        yield {name: columns[name][place] if name in columns else None for name in names}


def _values(column: pa.Array, name: str, path: Path, first: int) -> list[Any]:  # Any: whatever a cell holds
    import pyarrow as pa

    try:
        if pa.types.is_dictionary(column.type):
            distinct = column.dictionary.to_pylist()
            return [None if place is None else distinct[place] for place in column.indices.to_pylist()]
        values = column.to_pylist()
        if _is_file(column.type):
            return [_as_base64(value) for value in values]
        return [_shortest(value, column.type) for value in values] if _holds_short_numbers(column.type) else values
    except (ValueError, OverflowError) as error:  # a date beyond Python's, two fields of one name
        wrong = [first + place for place in range(len(column)) if not _converts(column, place)]
        raise DatasetInvalid(
            f"Column '{name}' of {path.name} cannot be read in rows {numbers(wrong)}: {' '.join(str(error).split())}",
            rows=wrong,
            code="wrong_type",
            fix="Mend or remove them, or write text there",
        ) from error


def _holds_short_numbers(kind: pa.DataType) -> bool:
    """Whether there are numbers of 32 or 16 bits in it, at any depth."""
    import pyarrow.types as types

    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return types.is_float32(kind) or types.is_float16(kind) or any(map(_holds_short_numbers, inner))


def _converts(column: pa.Array, place: int) -> bool:
    try:
        value = column[place].as_py()
        if _is_file(column.type):
            _as_base64(value)
    except (ValueError, OverflowError):
        return False
    return True


def _shortest(value: Any, kind: pa.DataType) -> Any:  # noqa: ANN401 (whatever a cell holds)
    """Numbers of 32 and 16 bits by the shortest decimal that means them, at any depth; everything else as it is."""
    import numpy as np
    import pyarrow.types as types

    if value is None:
        return None
    if types.is_float32(kind) or types.is_float16(kind):
        return float(str(np.float32(value) if types.is_float32(kind) else np.float16(value)))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return [_shortest(inner, kind.value_type) for inner in value]
    if types.is_struct(kind):
        return {field.name: _shortest(value[field.name], field.type) for field in kind}
    return value


def _huge(path: Path, column: str, most: int, *, rows: Sequence[int] = ()) -> DatasetInvalid:
    which = f"Rows {numbers(rows)} of {path.name}" if rows else f"Rows of column '{column}' of {path.name}"
    return DatasetInvalid(
        f"{which} are larger than {most:,} values or characters", rows=rows, fix="Split or remove them"
    )


@contextmanager
def _blaming(path: Path, what: str) -> Iterator[None]:
    """What a broken file raises is the customer's; what a disk raises is not."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = " ".join(str(error).split()).rstrip(".")
        raise DatasetInvalid(f"{path.name} is not a valid {what}: {reason}", fix="Was it copied whole?") from error
