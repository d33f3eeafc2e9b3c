"""The input of a bulk job, and its split into blocks: each a file of whole queries, which a worker reranks at once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from nvrerank_helpers.bulk.parquet import check_columns, find_run_files, import_arrow, read_batches, to_batches
from nvrerank_helpers.bulk.rows import BadRun, RunValidator
from nvrerank_helpers.bulk.trec import join_texts


@dataclass(frozen=True)
class JobInput:
    """The files of a job: Parquet with all four columns, or a TREC run file with its queries and passages."""

    run: Path
    queries: Path | None = None
    passages: Path | None = None

    def __post_init__(self) -> None:
        if (self.queries is None) != (self.passages is None):
            raise BadRun("A run file needs both its queries and its passages; Parquet with the texts needs neither.")

    def list_files(self) -> list[Path]:
        """Return every file of the input, after a check of Parquet's columns."""
        if self.queries and self.passages:
            files = [self.run, self.queries, self.passages]
            if missing := [str(file) for file in files if not file.is_file()]:
                raise BadRun(f"There is no file {', '.join(missing)}.")
            return files
        files = find_run_files(self.run)
        check_columns(files)
        return files

    def read(self, database_file: Path) -> Iterator[Any]:
        """Read Arrow record batches with the four columns; texts of a run file pass through `database_file`."""
        if self.queries and self.passages:
            return to_batches(join_texts(self.run, self.queries, self.passages, database_file))
        return read_batches(find_run_files(self.run))


def get_block_name(number: int) -> str:
    """Return the file name of a block, which is the same in every folder of a job."""
    return f"block-{number:06d}.parquet"


def write_blocks(batches: Iterable[Any], folder: Path, block_pairs: int) -> list[int]:
    """Check a run row by row, write it as blocks, and return the number of pairs of each.

    The same run makes the same blocks every time. A block ends with the query that brings it to `block_pairs` pairs,
    and no more than one block is in memory.
    """
    pa, pq = import_arrow()
    sizes: list[int] = []
    for parts in _split(batches, block_pairs):
        block = pa.Table.from_batches(parts)
        pq.write_table(block, folder / get_block_name(len(sizes)))
        sizes.append(block.num_rows)
    if not sizes:
        raise BadRun("The run has no rows: there is nothing to rerank.")
    return sizes


def _split(batches: Iterable[Any], block_pairs: int) -> Iterator[list[Any]]:
    validator = RunValidator()
    block: list[Any] = []
    for batch in batches:
        columns = (batch.column(name).to_pylist() for name in ("qid", "query", "docno"))
        starts = validator.find_query_starts(*columns)
        edges = sorted({0, *starts, batch.num_rows})
        for start, end in pairwise(edges):
            if start in starts and sum(part.num_rows for part in block) >= block_pairs:
                yield block
                block = []
            block.append(batch.slice(start, end - start))
    if block:
        yield block
