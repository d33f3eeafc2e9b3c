"""The rows of a bulk job: the checks on the input, groups by query, and the rows of a result. Also the job's errors."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple, TypeAlias

from nvrerank_helpers.connector import RerankError, argsort_descending

COLUMNS = ("qid", "query", "docno", "text")
"""The columns of the input, by the names that ir_datasets and TREC use."""

HOW_TO_SORT = (
    "Sort the rows by query first, with  pyarrow.parquet.read_table(...).sort_by('qid')  or, if they don't fit into "
    "memory, with DuckDB's  COPY (SELECT * FROM 'in.parquet' ORDER BY qid) TO 'sorted.parquet'."
)

Outcomes: TypeAlias = list[float | RerankError]
"""A logit, or the reason why there is none, for each passage of a query."""


class BadRun(ValueError):
    """The input of a bulk job cannot be reranked; no service has been asked yet."""


class JobMismatch(RuntimeError):
    """The output folder belongs to another job, or another process is using it."""


class JobStopped(RuntimeError):
    """The job stopped early. Finished blocks are kept, and the same call or command resumes the job."""


class QueryGroup(NamedTuple):
    """A query with the ids and texts of its passages."""

    qid: str
    query: str
    docnos: list[str]
    texts: list[str]


class RunValidator:
    """Checks the rows of a run as they are read, and finds where each query starts.

    It remembers the passage ids of the current query and a hash of each earlier query id: about 75 bytes per query,
    however many passages there are.
    """

    def __init__(self) -> None:
        self._row = 0
        self._qid: str | None = None
        self._query = ""
        self._docnos: set[str] = set()
        self._seen: set[int] = set()

    def find_query_starts(self, qids: Sequence[str], queries: Sequence[str], docnos: Sequence[str]) -> list[int]:
        """Check the next rows, and return the positions among them at which a query starts."""
        starts = []
        for position, (qid, query, docno) in enumerate(zip(qids, queries, docnos, strict=True)):
            if qid != self._qid:
                self._start_query(qid, query)
                starts.append(position)
            self._check_row(query, docno)
            self._docnos.add(docno)
            self._row += 1
        return starts

    def _start_query(self, qid: str, query: str) -> None:
        if hash(qid) in self._seen:
            raise BadRun(f"The rows of query {qid!r} are not consecutive: it is back in row {self._row}. {HOW_TO_SORT}")
        self._seen.add(hash(qid))
        self._qid, self._query, self._docnos = qid, query, set()

    def _check_row(self, query: str, docno: str) -> None:
        if query != self._query:
            raise BadRun(
                f"Query id {self._qid!r} has two queries, {self._query!r:.60} and {query!r:.60} (row {self._row}): "
                "give each query its own id."
            )
        if docno in self._docnos:
            raise BadRun(
                f"Passage {docno!r} appears twice under query {self._qid!r} (row {self._row}): leave out one of them."
            )


def group_by_query(rows: Sequence[tuple[str, str, str, str]]) -> Iterator[QueryGroup]:
    """Group consecutive rows of query id, query, passage id and text."""
    for qid, rows_of_query in groupby(rows, key=lambda row: row[0]):
        _, queries, docnos, texts = zip(*rows_of_query, strict=True)
        yield QueryGroup(qid, queries[0], list(docnos), list(texts))


def make_ranked_rows(
    group: QueryGroup, outcomes: Outcomes, top_n: int | None = None
) -> list[tuple[str, str, int, float]]:
    """Return query id, passage id, rank from 1 and logit, best first; equal logits stay in input order."""
    with_logit = [
        (docno, outcome)
        for docno, outcome in zip(group.docnos, outcomes, strict=True)
        if not isinstance(outcome, RerankError)
    ]
    order = argsort_descending([logit for _, logit in with_logit])[:top_n]
    return [(group.qid, with_logit[place][0], rank, with_logit[place][1]) for rank, place in enumerate(order, 1)]


def make_failed_rows(group: QueryGroup, outcomes: Outcomes) -> list[tuple[str, str, str, str]]:
    """Return query id, passage id, name of the error and its message for each passage without a logit."""
    return [
        (group.qid, docno, type(outcome).__name__, str(outcome.args[0]))
        for docno, outcome in zip(group.docnos, outcomes, strict=True)
        if isinstance(outcome, RerankError)
    ]
