"""What a bulk job reads: Parquet with all four columns, or a run file with queries and passages beside it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvrerank_helpers.bulk import trec
from nvrerank_helpers.bulk.errors import BadRun
from nvrerank_helpers.bulk.parquet import batches_of, check_columns, run_batches, run_files


@dataclass(frozen=True)
class Input:
    """The files of a job.

    Args:
        run: A Parquet file with the columns qid, query, docno and text, or a folder of such files; or a TREC run file,
            with the next two.
        queries: `qid<TAB>query` lines, or Parquet with these columns; for a run file only.
        passages: `docno<TAB>text` lines, or Parquet with these columns; for a run file only.

    Raises:
        BadRun: Only one of queries and passages is given.
    """

    run: Path
    queries: Path | None = None
    passages: Path | None = None

    def __post_init__(self) -> None:
        if (self.queries is None) != (self.passages is None):
            raise BadRun("A run file needs both its queries and its passages; Parquet with the texts needs neither.")

    def files(self) -> list[Path]:
        """Return every file that is read, after a look at the columns of Parquet.

        Raises:
            BadRun: A file is not there, or lacks a column.
        """
        if self.queries and self.passages:
            files = [self.run, self.queries, self.passages]
            if missing := [str(file) for file in files if not file.is_file()]:
                raise BadRun(f"There is no file {', '.join(missing)}.")
            return files
        files = run_files(self.run)
        check_columns(files)
        return files

    def batches(self, store: Path) -> Iterator[Any]:
        """Read the rows.

        Args:
            store: A file to use for a while, where texts must be looked up.

        Returns:
            Arrow record batches with the four columns.
        """
        if self.queries and self.passages:
            return batches_of(trec.joined(self.run, self.queries, self.passages, store))
        return run_batches(run_files(self.run))
