"""Run files as trec_eval reads them: six columns in and out, with queries and passages from files beside them."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from nvrerank_helpers.bulk.errors import BadRun
from nvrerank_helpers.bulk.parquet import text_columns

TAG = "nvrerank"


class RunLine(NamedTuple):
    """A line of a run file: `qid Q0 docno rank score tag`, as NIST's trec_eval defines it.

    Attributes:
        qid: Id of the query.
        docno: Id of the passage.
        rank: Its place; trec_eval goes by the score instead.
        score: The higher the better.
        tag: Name of the system.
    """

    qid: str
    docno: str
    rank: int
    score: float
    tag: str = TAG

    def __str__(self) -> str:
        return f"{self.qid} Q0 {self.docno} {self.rank} {self.score!r} {self.tag}"


def run_lines(lines: Iterable[str]) -> Iterator[RunLine]:
    """Read the lines of a run file.

    Args:
        lines: The lines; empty ones are passed over.

    Raises:
        BadRun: A line has not the six columns of a run.

    Example:
        >>> next(run_lines(["301 Q0 FR94-1 1 2.5 bm25"])).docno
        'FR94-1'
    """
    for number, line in enumerate(lines, 1):
        columns = line.split()
        if not columns:
            continue
        try:
            qid, _, docno, rank, score, tag = columns
            yield RunLine(qid, docno, int(rank), float(score), tag)
        except ValueError:
            raise BadRun(
                f"Line {number} of the run is not `qid Q0 docno rank score tag`: {line.strip()!r:.80}"
            ) from None


def run_line(qid: str, docno: str, rank: int, logit: float, tag: str = TAG) -> RunLine:
    """Make a line of a run file from a row of a job's result.

    Args:
        qid: Id of the query.
        docno: Id of the passage.
        rank: Its place, from 1.
        logit: Its logit, which becomes the score.
        tag: Name of the system.

    Raises:
        BadRun: An id or the tag is empty or has blanks, which the columns of the file are told apart by.

    Example:
        >>> print(run_line("301", "FR94-1", 1, 2.5))
        301 Q0 FR94-1 1 2.5 nvrerank
    """
    for name, value in {"query id": qid, "passage id": docno, "tag": tag}.items():
        if value.split() != [value]:
            raise BadRun(f"A run file cannot hold the {name} {value!r}: it must be one word without blanks.")
    return RunLine(qid, docno, rank, logit, tag)


def joined(run: Path, queries: Path, passages: Path, store: Path) -> Iterator[tuple[str, str, str, str]]:
    """Put the texts to the ids of a run file.

    The texts wait in a SQLite file, so that a collection of any size needs little memory.

    Args:
        run: The run file.
        queries: `qid<TAB>query` lines, or Parquet with the columns qid and query.
        passages: `docno<TAB>text` lines, or Parquet with the columns docno and text.
        store: Where to put the SQLite file; it is removed at the end.

    Returns:
        Query id, query, passage id and text of each line of the run, in its order.

    Raises:
        BadRun: A line cannot be read, or an id of the run is in neither file.
    """
    store.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(store)) as database, run.open(encoding="utf-8") as lines:
            database.execute("PRAGMA journal_mode = OFF")
            _fill(database, "queries", text_columns(queries, ("qid", "query")), queries)
            _fill(database, "passages", text_columns(passages, ("docno", "text")), passages)
            for line in run_lines(lines):
                query = _text(database, "queries", line.qid, queries)
                yield line.qid, query, line.docno, _text(database, "passages", line.docno, passages)
    finally:
        store.unlink(missing_ok=True)


def _fill(database: sqlite3.Connection, table: str, rows: Iterable[tuple[str, str]], file: Path) -> None:
    database.execute(f"CREATE TABLE {table} (id TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID")
    try:
        database.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)  # noqa: S608 - our own two names
    except sqlite3.IntegrityError:
        raise BadRun(f"{file} has an id twice, or one without a text: give each id one text.") from None


def _text(database: sqlite3.Connection, table: str, id_: str, file: Path) -> str:
    found = database.execute(f"SELECT text FROM {table} WHERE id = ?", (id_,)).fetchone()  # noqa: S608
    if found is None:
        raise BadRun(f"The run names {id_!r}, which is not in {file}: give the collection that the run was made from.")
    return str(found[0])
