"""A store in a folder: LanceDB, which runs inside the program and keeps text and vectors in files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from llama_index.core.base.embeddings.base import BaseEmbedding

from nvrerank_helpers.extras import extra
from nvrerank_helpers.retrieval.stores.base import Store, StoreBusy, StoreUnavailable
from nvrerank_helpers.retrieval.stores.bm25_index import Snapshot
from nvrerank_helpers.retrieval.stores.records import Row, StoreMetadata

TABLE = "passages"
METADATA_KEY = b"nvrerank"  # of the store's own record in the metadata of the table's schema


class LanceStore(Store):
    """A store in a folder of this machine, without a server.

    It uses LanceDB's own API instead of LlamaIndex's `LanceDBVectorStore` (0.6). That class cannot change a node in
    one step, stores an id twice, refuses nodes whose metadata has other keys than the first one's, fails to delete by
    node id, and scores by e to the power of minus the squared distance (its `base.py`: `add`, `delete_nodes`,
    `_to_llama_similarities`).

    Every change is one version of the LanceDB table. LanceDB does not wait for the disk: a killed process loses
    nothing that was acknowledged, a power cut may lose the last changes. Writers take turns with a file lock, so use a
    disk of this machine and not a network share without locks.

    Queries compare every vector, exactly. For millions of vectors, add a vector index to the LanceDB table.

    Args:
        folder: The folder of all files, made if it is missing.
        embed_model: What makes the vectors; `StaticEmbedding()` by default.
        patience: Seconds to wait for another writer.

    Raises:
        ExtraNotInstalled: The extra `lancedb` is missing.
        StoreUnavailable: Another program made the table in this folder.
        WrongModel: The store was made with another embedding model.
    """

    def __init__(self, folder: str | Path, embed_model: BaseEmbedding | None = None, *, patience: float = 60.0) -> None:
        with extra("lancedb"):
            import lancedb
        super().__init__(embed_model)
        self.folder = Path(folder).absolute()  # the program may change its working directory
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / "writer.lock", timeout=patience)
        # An interval of 0 makes the commits of other processes visible.
        self._database = lancedb.connect(self.folder, read_consistency_interval=timedelta(0))
        current = StoreMetadata.create(self.embed_model)
        self._table = self._open_table()  # without the lock, so that a folder without write access can be read
        if self._table is None:
            self._table = self._create_table(current)
        recorded = (self._table.schema.metadata or {}).get(METADATA_KEY)
        if recorded is None:
            raise StoreUnavailable(f"{self} has a table {TABLE!r} that is not a store: choose another folder.")
        self._finish_opening(StoreMetadata.from_json(recorded), current, self.folder / "bm25")

    def __repr__(self) -> str:
        return f"LanceStore({str(self.folder)!r})"

    def close(self) -> None:
        """Do nothing: nothing stays open between two calls."""

    def compact(self, older_than: timedelta = timedelta(hours=1)) -> None:
        """Join the small files that many changes leave behind, and drop old versions, which contain deleted texts.

        Args:
            older_than: Age of the versions that are dropped. Use 0 only if nobody is reading at the time.
        """
        with self._transaction() as table:
            # By default, LanceDB leaves deleted texts in a file until they are a tenth of it.
            table.to_lance().optimize.compact_files(materialize_deletions_threshold=0.0)
            table.optimize(cleanup_older_than=older_than)
        self._current_bm25_index()  # replaces the older index, which has the words of deleted texts

    def _open_table(self) -> Any:
        with suppress(ValueError):  # there is none, or the program that made it was killed before it was complete
            return self._database.open_table(TABLE)
        return None

    def _create_table(self, metadata: StoreMetadata) -> Any:
        with self._transaction():
            table = self._open_table()  # another program may have been first
            if table is None:
                self._database.create_table(TABLE, schema=_make_schema(metadata))
                table = self._database.open_table(TABLE)
            return table

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        try:
            with self._lock:
                yield self._table
        except Timeout:
            raise StoreBusy(f"Another program is writing to {self}: wait until it is done, then try again.") from None

    def _find_ids(self, database: Any, ids: Sequence[str]) -> set[str]:
        found = database.search().where(_make_filter(ids)).select(["id"]).limit(len(ids))
        return {row["id"] for row in found.to_list()}

    def _insert(self, database: Any, rows: Sequence[Row]) -> None:
        database.add(self._to_arrow(rows))

    def _replace(self, database: Any, rows: Sequence[Row]) -> None:
        database.merge_insert("id").when_matched_update_all().execute(self._to_arrow(rows))

    def _remove(self, database: Any, ids: Sequence[str]) -> None:
        database.delete(_make_filter(ids))

    def _to_arrow(self, rows: Sequence[Row]) -> Any:
        import pyarrow as pa

        return pa.table(dict(zip(Row._fields, zip(*rows, strict=True), strict=True)), schema=self._table.schema)

    def _read_generation(self) -> int:
        return int(self._table.version)

    def _take_snapshot(self) -> Snapshot:
        table = self._database.open_table(TABLE)
        table.checkout(table.version)  # from here on, this handle sees no later version
        rows = table.search().select(["id", "text"]).to_arrow()
        return Snapshot(table.version, dict(zip(*rows.to_pydict().values(), strict=True)))

    def _read_nodes(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        rows = self._table.search().where(_make_filter(ids)).select(["id", "node"]).limit(len(ids)).to_list()
        return [(row["id"], row["node"]) for row in rows]

    def _find_nearest(self, vector: list[float], top_k: int) -> list[tuple[str, float]]:
        query = self._table.search(vector).distance_type("cosine").limit(top_k)
        return [(row["node"], 1 - row["_distance"]) for row in query.select(["node", "_distance"]).to_list()]

    def __len__(self) -> int:
        return int(self._table.count_rows())


def _make_schema(metadata: StoreMetadata) -> Any:
    import pyarrow as pa

    texts = [pa.field(name, pa.string(), nullable=False) for name in ("id", "text", "node")]
    vector = pa.field("vector", pa.list_(pa.float32(), len(metadata.probe)), nullable=False)
    return pa.schema([*texts, vector], metadata={METADATA_KEY: metadata.to_json().encode()})


def _make_filter(ids: Sequence[str]) -> str:
    quoted = ", ".join("'" + id_.replace("'", "''") + "'" for id_ in ids)
    return f"id IN ({quoted})"
