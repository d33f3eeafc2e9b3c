"""Parquet in and out: streamed, checked, and written so that a file is whole or not there."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from nvrerank_helpers.bulk.errors import BadRun
from nvrerank_helpers.bulk.rows import COLUMNS
from nvrerank_helpers.extras import extra

MEANING = {"qid": "id of the query", "query": "its text", "docno": "id of the passage", "text": "its text"}
ROWS = 1024  # rows read at once
BUFFER = 1 << 20  # bytes of a column read at once, so that a file with one huge row group needs no more memory


def run_files(path: Path) -> list[Path]:
    """Return the Parquet files of a run, in the order in which they are read.

    Args:
        path: A file, or a folder of them.

    Raises:
        BadRun: There is none.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise BadRun(f"No Parquet file at {path}: give a file, or a folder with files that end in .parquet.")
    return files


def check_columns(files: Sequence[Path], columns: Sequence[str] = COLUMNS) -> None:
    """Check that every file has its columns, each of text.

    Args:
        files: Parquet files.
        columns: Names of the columns; those of a run unless others are given.

    Raises:
        BadRun: A file is not Parquet, or a column is missing or of another type.
    """
    with extra("ray"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    for file in files:
        try:
            schema = pq.read_schema(file)
        except pa.ArrowInvalid as error:
            raise BadRun(f"{file} cannot be read as Parquet: {error}") from None
        if missing := [name for name in columns if schema.get_field_index(name) < 0]:
            raise BadRun(
                f"{file} has no column {', '.join(missing)}; it has {', '.join(schema.names) or 'none'}. Give the "
                f"columns these names: {', '.join(f'{name} ({MEANING[name]})' for name in columns)}."
            )
        for name in columns:
            if not _is_text(schema.field(name).type):
                raise BadRun(f"{file}: column {name} is of type {schema.field(name).type}; write it as text (string).")


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def run_batches(files: Sequence[Path]) -> Iterator[Any]:
    """Read a run, a few rows at a time.

    Args:
        files: Files whose columns were checked.

    Returns:
        Arrow record batches with the four columns as strings.

    Raises:
        BadRun: A cell is empty of a value (null).
    """
    for file in files:
        yield from _batches(file, COLUMNS)


def _batches(file: Path, columns: Sequence[str]) -> Iterator[Any]:
    with extra("ray"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    schema = pa.schema([(name, pa.string()) for name in columns])
    before = 0
    with pq.ParquetFile(file, buffer_size=BUFFER, pre_buffer=False) as parquet:
        for batch in parquet.iter_batches(ROWS, columns=list(columns)):
            rows = batch.select(list(columns)).cast(schema)
            _check_nulls(rows, file, before)
            before += rows.num_rows
            yield rows


def _check_nulls(rows: Any, file: Path, before: int) -> None:
    for name in rows.schema.names:
        column = rows.column(name)
        if column.null_count:
            row = before + column.is_null().index(True).as_py()
            raise BadRun(f"{file}: column {name} has no value in row {row}. Fill it in, or leave the row out.")


def batches_of(rows: Iterator[tuple[str, str, str, str]]) -> Iterator[Any]:
    """Turn rows from elsewhere into record batches like those of `run_batches`."""
    with extra("ray"):
        import pyarrow as pa
    schema = pa.schema([(name, pa.string()) for name in COLUMNS])
    while part := list(islice(rows, ROWS)):
        yield pa.RecordBatch.from_arrays(
            [pa.array(column, pa.string()) for column in zip(*part, strict=True)], schema=schema
        )


def text_columns(file: Path, columns: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Read ids and their texts.

    Args:
        file: Parquet with the two columns, or lines of an id, a tab and a text.
        columns: Names of the two columns.

    Raises:
        BadRun: A column is missing, or a line has no tab.
    """
    if file.suffix == ".parquet":
        check_columns([file], columns)
        for batch in _batches(file, columns):
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
        return
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            id_, tab, text = line.rstrip("\r\n").partition("\t")
            if not tab:
                raise BadRun(f"Line {number} of {file} is not `{columns[0]}<TAB>{columns[1]}`: {line.strip()!r:.80}")
            yield id_.strip(), text


def read_columns(file: Path, columns: Sequence[str] = COLUMNS) -> list[tuple[Any, ...]]:
    """Read a small file as rows of these columns; those of a run unless others are given."""
    with extra("ray"):
        import pyarrow.parquet as pq
    table = pq.read_table(file, columns=list(columns))
    return list(zip(*(table.column(name).to_pylist() for name in columns), strict=True))


def count_rows(file: Path) -> int:
    """Return how many rows a Parquet file has."""
    with extra("ray"):
        import pyarrow.parquet as pq
    return int(pq.read_metadata(file).num_rows)


def write_rows(file: Path, rows: Sequence[tuple[Any, ...]], columns: dict[str, str]) -> None:
    """Write rows to a Parquet file, which is there whole or not at all.

    Args:
        file: Where to; an older one is replaced.
        rows: The rows.
        columns: Name and Arrow type of each column.
    """
    with extra("ray"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    values = zip(*rows, strict=True) if rows else [[] for _ in columns]
    arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
    half = file.with_name(f".{file.name}.{os.getpid()}")  # readers of a folder pass over names with a dot
    with half.open("wb") as stream:
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), stream)
        stream.flush()
        os.fsync(stream.fileno())
    half.replace(file)
