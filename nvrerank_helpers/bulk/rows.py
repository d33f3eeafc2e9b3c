"""The rows of a bulk job as plain lists: where a query begins, what is wrong with a row, which order logits give."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from nvrerank_helpers.bulk.errors import BadRun
from nvrerank_helpers.connector import RerankError, argsort_descending

COLUMNS = ("qid", "query", "docno", "text")
"""The columns of the input, by the names that ir_datasets and TREC use."""

SORT = (
    "Bring the rows of a query together first, with  pyarrow.parquet.read_table(...).sort_by('qid')  or, for what does "
    "not fit into memory, DuckDB's  COPY (SELECT * FROM 'in.parquet' ORDER BY qid) TO 'sorted.parquet'."
)


@dataclass(frozen=True)
class Question:
    """A query with the passages to rank for it.

    Attributes:
        qid: Id of the query.
        query: Its text.
        docnos: Ids of the passages.
        texts: Their texts, in the same order.
    """

    qid: str
    query: str
    docnos: list[str]
    texts: list[str]


class Watch:
    """Sees the rows of a run go by, refuses what is wrong, and says where a query begins.

    It remembers the passage ids of one query and a number for each query before it, so that its memory grows by about
    75 bytes a query and not with the passages.

    Example:
        >>> Watch().starts(["1", "1", "2"], ["a", "a", "b"], ["x", "y", "x"])
        [0, 2]
    """

    def __init__(self) -> None:
        self._row = 0
        self._qid: str | None = None
        self._query = ""
        self._docnos: set[str] = set()
        self._seen: set[int] = set()

    def starts(self, qids: Sequence[str], queries: Sequence[str], docnos: Sequence[str]) -> list[int]:
        """Look at the next rows.

        Args:
            qids: Query id of each row.
            queries: Query of each row.
            docnos: Passage id of each row.

        Returns:
            The positions among these rows at which a query begins.

        Raises:
            BadRun: Two rows say different things of one query, name a passage twice, or a query comes back after
                another one.
        """
        starts = []
        for position, (qid, query, docno) in enumerate(zip(qids, queries, docnos, strict=True)):
            if qid != self._qid:
                self._begin(qid, query)
                starts.append(position)
            self._check(query, docno)
            self._docnos.add(docno)
            self._row += 1
        return starts

    def _begin(self, qid: str, query: str) -> None:
        if hash(qid) in self._seen:
            raise BadRun(f"The rows of query {qid!r} do not stand together: it is back in row {self._row}. {SORT}")
        self._seen.add(hash(qid))
        self._qid, self._query = qid, query
        self._docnos = set()

    def _check(self, query: str, docno: str) -> None:
        if query != self._query:
            raise BadRun(
                f"Query id {self._qid!r} has two queries, {self._query!r:.60} and {query!r:.60} (row {self._row}): "
                "give each query an id of its own."
            )
        if docno in self._docnos:
            raise BadRun(
                f"Passage {docno!r} stands twice under query {self._qid!r} (row {self._row}): leave one of them out."
            )


def questions(rows: Sequence[tuple[str, str, str, str]]) -> Iterator[Question]:
    """Group rows that stand together by query.

    Args:
        rows: Query id, query, passage id and text of each row.

    Example:
        >>> [question.docnos for question in questions([("1", "a", "x", "X"), ("1", "a", "y", "Y")])]
        [['x', 'y']]
    """
    for qid, group in groupby(rows, key=lambda row: row[0]):
        part = list(group)
        yield Question(qid, part[0][1], [row[2] for row in part], [row[3] for row in part])


def ranked_rows(
    question: Question, outcomes: Sequence[float | RerankError], top_n: int | None = None
) -> list[tuple[str, str, int, float]]:
    """Put the passages of a query into the order of their logits.

    Args:
        question: The query.
        outcomes: A logit, or why there is none, for each of its passages.
        top_n: How many to keep; None keeps all.

    Returns:
        Query id, passage id, rank from 1 and logit, best first, equal ones in input order.

    Example:
        >>> ranked_rows(Question("1", "a", ["x", "y"], ["X", "Y"]), [0.5, 2.0])
        [('1', 'y', 1, 2.0), ('1', 'x', 2, 0.5)]
    """
    scored = [
        (docno, outcome)
        for docno, outcome in zip(question.docnos, outcomes, strict=True)
        if not isinstance(outcome, RerankError)
    ]
    order = argsort_descending([logit for _, logit in scored])[:top_n]
    return [(question.qid, scored[place][0], rank, scored[place][1]) for rank, place in enumerate(order, 1)]


def failed_rows(question: Question, outcomes: Sequence[float | RerankError]) -> list[tuple[str, str, str, str]]:
    """Say why passages of a query have no logit.

    Args:
        question: The query.
        outcomes: A logit, or why there is none, for each of its passages.

    Returns:
        Query id, passage id, name of the error and what happened.

    Example:
        >>> failed_rows(Question("1", "a", ["x", "y"], ["X", ""]), [0.5, RerankError("No text.")])
        [('1', 'y', 'RerankError', 'No text.')]
    """
    return [
        (question.qid, docno, type(outcome).__name__, str(outcome.args[0]))
        for docno, outcome in zip(question.docnos, outcomes, strict=True)
        if isinstance(outcome, RerankError)
    ]
