"""Parquet in and out: read as a stream, checked, and written so that a file is complete or not there."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from nvrerank_helpers.bulk.rows import COLUMNS, BadRun
from nvrerank_helpers.extras import extra

MEANINGS = {"qid": "id of the query", "query": "its text", "docno": "id of the passage", "text": "its text"}
BATCH_ROWS = 1024
BUFFER_BYTES = 1 << 20  # of each column, so that a file with one huge row group needs no more memory


def import_arrow() -> tuple[Any, Any]:
    """Return the modules `pyarrow` and `pyarrow.parquet`."""
    with extra("ray"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    return pa, pq


def find_run_files(path: Path) -> list[Path]:
    """Return a Parquet file, or all those of a folder in the order of their names."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        raise BadRun(f"No Parquet file at {path}: give a file, or a folder with files that end in .parquet.")
    return files


def check_columns(files: Sequence[Path], columns: Sequence[str] = COLUMNS) -> None:
    """Check that every file has these columns, and that all of them contain text."""
    pa, pq = import_arrow()
    for file in files:
        try:
            schema = pq.read_schema(file)
        except pa.ArrowInvalid as error:
            raise BadRun(f"{file} cannot be read as Parquet: {error}") from None
        if missing := [name for name in columns if schema.get_field_index(name) < 0]:
            raise BadRun(
                f"{file} has no column {', '.join(missing)}; it has {', '.join(schema.names) or 'none'}. Give the "
                f"columns these names: {', '.join(f'{name} ({MEANINGS[name]})' for name in columns)}."
            )
        for name in columns:
            if not _is_text(pa, schema.field(name).type):
                raise BadRun(f"{file}: column {name} is of type {schema.field(name).type}; write it as text (string).")


def _is_text(pa: Any, kind: Any) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value))


def read_batches(files: Sequence[Path], columns: Sequence[str] = COLUMNS) -> Iterator[Any]:
    """Read Arrow record batches with these columns as strings, from files whose columns were checked."""
    pa, pq = import_arrow()
    schema = pa.schema([(name, pa.string()) for name in columns])
    for file in files:
        rows_before = 0
        with pq.ParquetFile(file, buffer_size=BUFFER_BYTES, pre_buffer=False) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, columns=list(columns)):
                rows = batch.select(list(columns)).cast(schema)
                _check_nulls(rows, file, rows_before)
                rows_before += rows.num_rows
                yield rows


def _check_nulls(rows: Any, file: Path, rows_before: int) -> None:
    for name in rows.schema.names:
        column = rows.column(name)
        if column.null_count:
            row = rows_before + column.is_null().index(True).as_py()
            raise BadRun(f"{file}: column {name} has no value in row {row}. Fill it in, or leave the row out.")


def to_batches(rows: Iterator[tuple[str, str, str, str]]) -> Iterator[Any]:
    """Turn rows from elsewhere into record batches like those of `read_batches`."""
    pa, _ = import_arrow()
    while part := list(islice(rows, BATCH_ROWS)):
        arrays = [pa.array(column, pa.string()) for column in zip(*part, strict=True)]
        yield pa.RecordBatch.from_arrays(arrays, names=list(COLUMNS))


def read_texts(file: Path, columns: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Read ids and texts from Parquet with these two columns, or from lines of an id, a tab and a text."""
    if file.suffix == ".parquet":
        check_columns([file], columns)
        for batch in read_batches([file], columns):
            yield from zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
        return
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            id_, tab, text = line.rstrip("\r\n").partition("\t")
            if not tab:
                raise BadRun(f"Line {number} of {file} is not `{columns[0]}<TAB>{columns[1]}`: {line.strip()!r:.80}")
            yield id_.strip(), text


def read_rows(file: Path, columns: Sequence[str] = COLUMNS) -> list[tuple[Any, ...]]:
    """Read a small file as rows of these columns."""
    _, pq = import_arrow()
    table = pq.read_table(file, columns=list(columns))
    return list(zip(*(table.column(name).to_pylist() for name in columns), strict=True))


def count_rows(file: Path) -> int:
    """Return how many rows a Parquet file has."""
    _, pq = import_arrow()
    return int(pq.read_metadata(file).num_rows)


def write_rows(file: Path, rows: Sequence[tuple[Any, ...]], columns: dict[str, str]) -> None:
    """Write rows to a Parquet file that appears only when it is complete; `columns` maps names to Arrow types."""
    pa, pq = import_arrow()
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    values = zip(*rows, strict=True) if rows else [[] for _ in columns]
    arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
    partial = file.with_name(f".{file.name}.{os.getpid()}")  # readers of a folder skip names with a leading dot
    with partial.open("wb") as stream:
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(file)
