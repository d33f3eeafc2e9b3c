"""A run cut into blocks of whole queries, each a file of its own: what a worker takes, and what is done once."""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from nvrerank_helpers.bulk.errors import BadRun
from nvrerank_helpers.bulk.rows import Watch
from nvrerank_helpers.extras import extra


def block_name(number: int) -> str:
    """Return the name of a block's file, in every folder of a job.

    Example:
        >>> block_name(123)
        'block-000123.parquet'
    """
    return f"block-{number:06d}.parquet"


def cut(batches: Iterable[Any], folder: Path, block_pairs: int) -> list[int]:
    """Write a run as blocks, and check it row by row on the way.

    The same run gives the same blocks every time. No more than a block is in memory.

    Args:
        batches: Arrow record batches with the columns of a run.
        folder: Where to write the blocks.
        block_pairs: A block ends with the query that brings it to this many pairs.

    Returns:
        The number of pairs of each block.

    Raises:
        BadRun: The run has no rows, or one is not right; see `rows.Watch`.
    """
    with extra("ray"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    sizes: list[int] = []
    for parts in _blocks(batches, block_pairs):
        block = pa.Table.from_batches(parts)
        pq.write_table(block, folder / block_name(len(sizes)))
        sizes.append(block.num_rows)
    if not sizes:
        raise BadRun("The run has no rows: there is nothing to rerank.")
    return sizes


def _blocks(batches: Iterable[Any], block_pairs: int) -> Iterator[list[Any]]:
    watch = Watch()
    block: list[Any] = []
    for batch in batches:
        starts = watch.starts(*(batch.column(name).to_pylist() for name in ("qid", "query", "docno")))
        edges = sorted({0, *starts, batch.num_rows})
        for start, end in pairwise(edges):
            if start in starts and sum(part.num_rows for part in block) >= block_pairs:
                yield block
                block = []
            block.append(batch.slice(start, end - start))
    if block:
        yield block
