"""TREC run files: their six columns, and the join with queries and passages from other files."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from nvrerank_helpers.bulk.parquet import read_texts
from nvrerank_helpers.bulk.rows import BadRun

TAG = "nvrerank"


class RunLine(NamedTuple):
    """A line of a run file, `qid Q0 docno rank score tag`, as NIST's trec_eval defines it.

    trec_eval ignores the rank and sorts by score, higher first. `tag` names the system that made the run. `str(line)`
    raises `BadRun` if an id or the tag is empty or contains blanks, because blanks separate the columns.

    Example:
        >>> print(RunLine("301", "FR94-1", 1, 2.5))
        301 Q0 FR94-1 1 2.5 nvrerank
    """

    qid: str
    docno: str
    rank: int
    score: float
    tag: str = TAG

    def __str__(self) -> str:
        for name, value in {"query id": self.qid, "passage id": self.docno, "tag": self.tag}.items():
            if value.split() != [value]:
                raise BadRun(f"A run file cannot contain the {name} {value!r}: it must be one word without blanks.")
        return f"{self.qid} Q0 {self.docno} {self.rank} {self.score!r} {self.tag}"


def read_run_lines(lines: Iterable[str]) -> Iterator[RunLine]:
    """Read the lines of a run file, without the empty ones."""
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


def join_texts(run: Path, queries: Path, passages: Path, database_file: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield query id, query, passage id and text for each line of a run file.

    The texts are kept in a temporary SQLite file, so that a collection of any size needs little memory.
    """
    database_file.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(database_file)) as database, run.open(encoding="utf-8") as lines:
            database.execute("PRAGMA journal_mode = OFF")
            _fill_table(database, "queries", read_texts(queries, ("qid", "query")), queries)
            _fill_table(database, "passages", read_texts(passages, ("docno", "text")), passages)
            for line in read_run_lines(lines):
                query = _find_text(database, "queries", line.qid, queries)
                yield line.qid, query, line.docno, _find_text(database, "passages", line.docno, passages)
    finally:
        database_file.unlink(missing_ok=True)


def _fill_table(database: sqlite3.Connection, table: str, rows: Iterable[tuple[str, str]], file: Path) -> None:
    database.execute(f"CREATE TABLE {table} (id TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID")
    try:
        database.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)  # noqa: S608 - our own two names
    except sqlite3.IntegrityError:
        raise BadRun(f"{file} has an id twice, or one without a text: give each id one text.") from None


def _find_text(database: sqlite3.Connection, table: str, id_: str, file: Path) -> str:
    found = database.execute(f"SELECT text FROM {table} WHERE id = ?", (id_,)).fetchone()  # noqa: S608
    if found is None:
        raise BadRun(f"The run names {id_!r}, which is not in {file}: give the collection that the run was made from.")
    return str(found[0])
