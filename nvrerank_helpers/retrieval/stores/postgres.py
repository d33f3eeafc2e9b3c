"""A store on a server: PostgreSQL with pgvector."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.utils import get_cache_dir
from sqlalchemy.exc import ArgumentError, DBAPIError

from nvrerank_helpers.extras import extra
from nvrerank_helpers.retrieval.stores.base import Store, StoreBusy, StoreUnavailable
from nvrerank_helpers.retrieval.stores.bm25_index import Snapshot
from nvrerank_helpers.retrieval.stores.records import Row, StoreMetadata

CONNECT_SECONDS = 10
CREATION_LOCK = 0x6E767265  # number of the advisory lock under which stores are made


class PostgresStore(Store):
    """A store on a PostgreSQL server with the extension pgvector, shared by all machines that connect to it.

    It uses SQLAlchemy and pgvector instead of LlamaIndex's `PGVectorStore` (0.9). That class stores an id twice,
    changes a node by deleting and adding in two transactions, shows the password in its `repr`, and continues after a
    failed set-up (its `base.py`: `get_data_model`, `connection_string`, `_initialize`).

    One table contains the nodes. A second one, whose name ends in `_about`, contains the generation and the embedding
    model. Each change is one transaction and locks the row of that second table, so writers take turns. Each machine
    has its own BM25 index file. Change the tables only through this class: if you write with SQL, raise `generation`.

    Queries compare every vector, exactly. For millions of vectors, give the column `vector` an HNSW index
    (`vector_cosine_ops`).

    Args:
        address: `postgresql://user:password@host:port/database`. Missing parts come from the environment
            (`PGPASSWORD`, `~/.pgpass` and so on), as in `psql`.
        table: Name of the table: small letters, digits and `_`, at most 50.
        embed_model: What makes the vectors; `StaticEmbedding()` by default.
        folder: Where this machine keeps BM25 indexes; LlamaIndex's cache folder by default.
        patience: Seconds to wait for another writer.

    Raises:
        ExtraNotInstalled: The extra `postgres` is missing.
        ValueError: The address or the name of the table cannot be used.
        StoreUnavailable: The server does not answer or refuses, has no pgvector, or the table is not a store.
        WrongModel: The store was made with another embedding model.
    """

    def __init__(
        self,
        address: str,
        table: str = "passages",
        embed_model: BaseEmbedding | None = None,
        *,
        folder: str | Path | None = None,
        patience: float = 60.0,
    ) -> None:
        with extra("postgres"):
            import pgvector.sqlalchemy  # noqa: F401
            import psycopg2  # noqa: F401
        if not re.fullmatch(r"[a-z_][a-z0-9_]{0,49}", table):
            raise ValueError(f"{table!r} cannot be the name of a table: use at most 50 small letters, digits and _.")
        super().__init__(embed_model)
        self.table = table
        self._url = _parse_url(address)
        self._patience = patience
        # hide_parameters keeps texts out of error messages.
        self._engine = sa.create_engine(
            self._url, pool_pre_ping=True, hide_parameters=True, connect_args={"connect_timeout": CONNECT_SECONDS}
        )
        current = StoreMetadata.create(self.embed_model)
        self._passages, self._about = _define_tables(table, len(current.probe))
        with self._connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(CREATION_LOCK)))
            if not sa.inspect(connection).has_table(self._about.name):
                self._create_tables(connection, current)
            recorded = connection.scalars(sa.select(self._about.c.about)).one()
        cache = Path(folder or get_cache_dir()) / "nvrerank_bm25"
        self._finish_opening(StoreMetadata.from_json(recorded), current, cache)

    def __repr__(self) -> str:
        port = f":{self._url.port}" if self._url.port else ""
        return f"PostgresStore('postgresql://{self._url.host or ''}{port}/{self._url.database}', table={self.table!r})"

    def close(self) -> None:
        """Close the connections to the server."""
        self._engine.dispose()

    def _create_tables(self, connection: sa.Connection, metadata: StoreMetadata) -> None:
        if sa.inspect(connection).has_table(self.table):
            raise StoreUnavailable(f"The table {self.table!r} exists already and is not a store: choose another name.")
        if not connection.scalar(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'vector'")):
            try:
                connection.execute(sa.text("CREATE EXTENSION vector"))
            except DBAPIError as error:
                raise StoreUnavailable(
                    f"The database has no pgvector ({self._extract_message(error)}). Install it on the server, for "
                    f"example with Debian's package postgresql-NN-pgvector, and have an administrator of this database "
                    f"run: CREATE EXTENSION vector"
                ) from None
        self._passages.metadata.create_all(connection)
        connection.execute(sa.insert(self._about).values(about=metadata.to_json(), generation=1))

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        """Open a transaction, and translate the server's errors without showing the password."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) == "55P03":  # lock_not_available
                raise StoreBusy(f"Another program is writing to {self}: wait until it is done, try again.") from None
            raise StoreUnavailable(
                f"{self} cannot be used: {self._extract_message(error)}. "
                f"Look at host, port, database, user, password and rights."
            ) from None

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._connect() as connection:
            milliseconds = f"{max(self._patience * 1000, 1):.0f}"  # 0 would wait forever
            connection.execute(sa.select(sa.func.set_config("lock_timeout", milliseconds, True)))
            # Microseconds instead of 1, 2, 3: after a backup is restored, no generation may come a second time.
            now = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1_000_000, sa.BigInteger)
            generation = sa.func.greatest(self._about.c.generation + 1, now)
            connection.execute(sa.update(self._about).values(generation=generation))
            yield connection

    def _find_ids(self, database: sa.Connection, ids: Sequence[str]) -> set[str]:
        return set(database.scalars(sa.select(self._passages.c.id).where(self._passages.c.id.in_(ids))))

    def _insert(self, database: sa.Connection, rows: Sequence[Row]) -> None:
        database.execute(sa.insert(self._passages), [row._asdict() for row in rows])

    def _replace(self, database: sa.Connection, rows: Sequence[Row]) -> None:
        from sqlalchemy.dialects.postgresql import insert

        statement = insert(self._passages)
        new = {name: statement.excluded[name] for name in ("text", "node", "vector")}
        upsert = statement.on_conflict_do_update(index_elements=["id"], set_=new)
        database.execute(upsert, [row._asdict() for row in rows])

    def _remove(self, database: sa.Connection, ids: Sequence[str]) -> None:
        database.execute(sa.delete(self._passages).where(self._passages.c.id.in_(ids)))

    def _read_generation(self) -> int:
        with self._connect() as connection:
            return int(connection.scalars(sa.select(self._about.c.generation)).one())

    def _take_snapshot(self) -> Snapshot:
        with self._connect() as connection:
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            generation = connection.scalars(sa.select(self._about.c.generation)).one()
            rows = connection.execute(sa.select(self._passages.c.id, self._passages.c.text))
            return Snapshot(generation, {row.id: row.text for row in rows})

    def _read_nodes(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        query = sa.select(self._passages.c.id, self._passages.c.node).where(self._passages.c.id.in_(ids))
        with self._connect() as connection:
            return [(row.id, row.node) for row in connection.execute(query)]

    def _find_nearest(self, vector: list[float], top_k: int) -> list[tuple[str, float]]:
        distance = self._passages.c.vector.cosine_distance(vector).label("distance")
        query = sa.select(self._passages.c.node, distance).order_by(distance).limit(top_k)
        with self._connect() as connection:
            return [(row.node, 1 - row.distance) for row in connection.execute(query)]

    def __len__(self) -> int:
        with self._connect() as connection:
            return connection.scalars(sa.select(sa.func.count()).select_from(self._passages)).one()

    def _extract_message(self, error: DBAPIError) -> str:
        message = str(error.orig).strip().partition("\n")[0]
        return message.replace(self._url.password, "***") if self._url.password else message


def _parse_url(address: str) -> sa.URL:
    try:
        url = sa.make_url(address)
    except (ArgumentError, ValueError):  # their messages may contain a part of the password
        url = None
    if url is None or address.count("@") > 1:  # the end of the password would be taken for the host, and shown
        raise ValueError(
            "The address of the database cannot be read: write postgresql://user:password@host:port/database, with "
            "signs such as @ and / in the password as %40 and %2F (urllib.parse.quote_plus makes them)."
        )
    return url.set(drivername="postgresql+psycopg2")


def _define_tables(name: str, dimension: int) -> tuple[sa.Table, sa.Table]:
    from pgvector.sqlalchemy import Vector

    metadata = sa.MetaData()
    texts: list[sa.Column[Any]] = [sa.Column(column, sa.Text, nullable=False) for column in ("text", "node")]
    key: sa.Column[Any] = sa.Column("id", sa.Text, primary_key=True)
    passages = sa.Table(name, metadata, key, *texts, sa.Column("vector", Vector(dimension), nullable=False))
    generation = sa.Column("generation", sa.BigInteger, nullable=False)
    return passages, sa.Table(f"{name}_about", metadata, sa.Column("about", sa.Text, nullable=False), generation)
