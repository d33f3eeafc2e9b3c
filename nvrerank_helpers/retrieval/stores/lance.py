"""A store in a folder: LanceDB, which runs inside the program and keeps text and vectors in files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from llama_index.core.base.embeddings.base import BaseEmbedding

from nvrerank_helpers.extras import extra
from nvrerank_helpers.retrieval.stores.base import Store, StoreBusy, StoreUnavailable, refuse
from nvrerank_helpers.retrieval.stores.bm25_index import Snapshot
from nvrerank_helpers.retrieval.stores.records import About, Row

TABLE = "passages"
ABOUT = b"nvrerank"  # under which the table's schema says what the store was made with


class LanceStore(Store):
    """A store in a folder of this machine, without a server.

    LanceDB's own API is used and not LlamaIndex's `LanceDBVectorStore` (0.6): that one cannot change a node in one
    step, keeps an id twice, refuses nodes whose metadata has other keys than the first one's, fails to delete by node
    id, and gives e to the power of minus the squared distance as score (its `base.py`: `add`, `delete_nodes`,
    `_to_llama_similarities`).

    Every change is one version of the LanceDB table. LanceDB does not wait for the disk: a killed process loses
    nothing that was acknowledged, a power cut may lose the last changes. Writers take turns through a lock on a file,
    so put the folder on a disk of this machine and not on a share without locks.

    Queries look at every vector, exactly. For millions, give the LanceDB table a vector index.

    Args:
        folder: Where everything is kept; made where it is missing.
        embed_model: What makes the vectors; `StaticEmbedding()` by default.
        patience: Seconds to wait for another writer.

    Raises:
        ExtraNotInstalled: The extra `lancedb` is missing.
        StoreUnavailable: Another program made the table in this folder.
        WrongModel: The store was made with another embedding model.

    Example:
        >>> store = LanceStore("passages")  # doctest: +SKIP
        >>> store.add(load_passages())  # doctest: +SKIP
        >>> len(LanceStore("passages"))  # doctest: +SKIP
        8080
    """

    def __init__(self, folder: str | Path, embed_model: BaseEmbedding | None = None, *, patience: float = 60.0) -> None:
        with extra("lancedb"):
            import lancedb
        super().__init__(embed_model)
        self.folder = Path(folder).absolute()  # the program may go to another folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / "writer.lock", timeout=patience)
        # Without an interval of 0, what other processes commit would not be seen.
        self._database = lancedb.connect(self.folder, read_consistency_interval=timedelta(0))
        now = About.new(self.embed_model)
        self._table = self._present_table()  # without the lock, so that a folder may be read where it cannot be written
        if self._table is None:
            self._table = self._made_table(now)
        about = (self._table.schema.metadata or {}).get(ABOUT)
        if about is None:
            raise StoreUnavailable(f"{self} holds a table {TABLE!r} that is no store: choose another folder.")
        self._opened(About.from_json(about), now, self.folder / "bm25")

    def __repr__(self) -> str:
        return f"LanceStore({str(self.folder)!r})"

    def close(self) -> None:
        """Do nothing: between two calls nothing is held open."""

    def compact(self, older_than: timedelta = timedelta(hours=1)) -> None:
        """Join the small files that many changes leave, and drop old versions: only then are deleted texts gone.

        Args:
            older_than: Age of the versions that are dropped. Give 0 only where nobody is reading at the time.

        Example:
            >>> store.compact()  # doctest: +SKIP
        """
        with self._writing():
            # By default LanceDB leaves a deleted text in its file until a tenth of the file is deleted.
            self._table.to_lance().optimize.compact_files(materialize_deletions_threshold=0.0)
            self._table.optimize(cleanup_older_than=older_than)
        self._present_words()  # the BM25 index before held the words of deleted texts

    def _present_table(self) -> Any:
        with suppress(ValueError):  # there is none, or the program that made it was killed before it was whole
            return self._database.open_table(TABLE)
        return None

    def _made_table(self, now: About) -> Any:
        with self._writing():
            made = self._present_table()  # another program may have been first
            if made is None:
                self._database.create_table(TABLE, schema=_schema(now))
                made = self._database.open_table(TABLE)
            return made

    def _insert(self, rows: Sequence[Row]) -> None:
        with self._writing():
            refuse(self._held([row.id for row in rows]), because="in the store already, use change() for them")
            self._table.add(self._arrow(rows))

    def _update(self, rows: Sequence[Row]) -> None:
        with self._writing():
            wanted = {row.id for row in rows}
            refuse(wanted - self._held(list(wanted)), because="not in the store, use add() for them")
            self._table.merge_insert("id").when_matched_update_all().execute(self._arrow(rows))

    def _remove(self, ids: Sequence[str]) -> None:
        with self._writing():
            refuse(set(ids) - self._held(ids), because="not in the store")
            self._table.delete(_among(ids))

    def _generation(self) -> int:
        return int(self._table.version)

    def _snapshot(self) -> Snapshot:
        table = self._database.open_table(TABLE)
        table.checkout(table.version)  # from here on this handle sees no later version
        rows = table.search().select(["id", "text"]).to_arrow()
        return Snapshot(table.version, dict(zip(*rows.to_pydict().values(), strict=True)))

    def _nodes(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        rows = self._table.search().where(_among(ids)).select(["id", "node"]).limit(len(ids)).to_list()
        return [(row["id"], row["node"]) for row in rows]

    def _nearest(self, vector: list[float], top_k: int) -> list[tuple[str, float]]:
        query = self._table.search(vector).distance_type("cosine").limit(top_k)
        return [(row["node"], 1 - row["_distance"]) for row in query.select(["node", "_distance"]).to_list()]

    def _count(self) -> int:
        return int(self._table.count_rows())

    def _held(self, ids: Sequence[str]) -> set[str]:
        return {row["id"] for row in self._table.search().where(_among(ids)).select(["id"]).limit(len(ids)).to_list()}

    def _arrow(self, rows: Sequence[Row]) -> Any:
        import pyarrow as pa

        return pa.table(dict(zip(Row._fields, zip(*rows, strict=True), strict=True)), schema=self._table.schema)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except Timeout:
            raise StoreBusy(f"Another program is writing to {self}: wait until it is done, then try again.") from None


def _schema(about: About) -> Any:
    import pyarrow as pa

    texts = [pa.field(name, pa.string(), nullable=False) for name in ("id", "text", "node")]
    vector = pa.field("vector", pa.list_(pa.float32(), len(about.probe)), nullable=False)
    return pa.schema([*texts, vector], metadata={ABOUT: about.to_json().encode()})


def _among(ids: Sequence[str]) -> str:
    quoted = ", ".join("'" + id_.replace("'", "''") + "'" for id_ in ids)
    return f"id IN ({quoted})"
