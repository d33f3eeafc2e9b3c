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
from nvrerank_helpers.retrieval.stores.base import Store, StoreBusy, StoreUnavailable, refuse
from nvrerank_helpers.retrieval.stores.bm25_index import Snapshot
from nvrerank_helpers.retrieval.stores.records import About, Row

CONNECT_SECONDS = 10
MAKING = 0x6E767265  # number of the lock that those take who make a store, so that only one does


class PostgresStore(Store):
    """A store on a PostgreSQL server with the extension pgvector, shared by as many machines as connect to it.

    SQLAlchemy and pgvector are used and not LlamaIndex's `PGVectorStore` (0.9): that one keeps an id twice, changes a
    node by deleting and adding in two transactions, shows the password in its `repr`, and goes on after a failed
    set-up (its `base.py`: `get_data_model`, `connection_string`, `_initialize`).

    A table holds the nodes, a second one, with `_about` behind its name, the generation and the embedding model. Each
    change is one transaction and locks that second table's row, so that writers take turns. The BM25 index is a file
    of each machine. Change the tables through this class only: whoever writes with SQL must raise `generation`.

    Queries look at every vector, exactly. For millions, give the column `vector` an HNSW index (`vector_cosine_ops`).

    Args:
        address: `postgresql://user:password@host:port/database`. What is left out comes from the environment
            (`PGPASSWORD`, `~/.pgpass` and so on), as in `psql`.
        table: Name of the table: small letters, digits and `_`, at most 50.
        embed_model: What makes the vectors; `StaticEmbedding()` by default.
        folder: Where this machine keeps BM25 indexes; LlamaIndex's folder for caches by default.
        patience: Seconds to wait for another writer.

    Raises:
        ExtraNotInstalled: The extra `postgres` is missing.
        ValueError: The address or the name of the table cannot be used.
        StoreUnavailable: The server does not answer or refuses, has no pgvector, or the table is of another kind.
        WrongModel: The store was made with another embedding model.

    Example:
        >>> store = PostgresStore("postgresql://reader@db.example/texts", table="manuals")  # doctest: +SKIP
        >>> store  # doctest: +SKIP
        PostgresStore('postgresql://db.example/texts', table='manuals')
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
        self._url = _url(address)
        self._patience = patience
        # Texts of readers must not stand in an error message: that is what hide_parameters is for.
        self._engine = sa.create_engine(
            self._url, pool_pre_ping=True, hide_parameters=True, connect_args={"connect_timeout": CONNECT_SECONDS}
        )
        now = About.new(self.embed_model)
        self._passages, self._about = _tables(table, len(now.probe))
        with self._connection() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MAKING)))
            if not sa.inspect(connection).has_table(self._about.name):
                self._make(connection, now)
            about = connection.scalars(sa.select(self._about.c.about)).one()
        self._opened(About.from_json(about), now, Path(folder or get_cache_dir()) / "nvrerank_bm25")

    def __repr__(self) -> str:
        port = f":{self._url.port}" if self._url.port else ""
        return f"PostgresStore('postgresql://{self._url.host or ''}{port}/{self._url.database}', table={self.table!r})"

    def close(self) -> None:
        """Close the connections to the server."""
        self._engine.dispose()

    def _make(self, connection: sa.Connection, now: About) -> None:
        if sa.inspect(connection).has_table(self.table):
            raise StoreUnavailable(f"There is a table {self.table!r} already that is no store: choose another name.")
        if not connection.scalar(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'vector'")):
            try:
                connection.execute(sa.text("CREATE EXTENSION vector"))
            except DBAPIError as error:
                raise StoreUnavailable(
                    f"The database has no pgvector ({self._said(error)}). Install it on the server, for example with "
                    f"Debian's package postgresql-NN-pgvector, and let an administrator of this database say: "
                    f"CREATE EXTENSION vector"
                ) from None
        self._passages.metadata.create_all(connection)
        connection.execute(sa.insert(self._about).values(about=now.to_json(), generation=1))

    def _insert(self, rows: Sequence[Row]) -> None:
        with self._writing() as connection:
            held = self._held(connection, [row.id for row in rows])
            refuse(held, because="in the store already, use change() for them")
            connection.execute(sa.insert(self._passages), [row._asdict() for row in rows])

    def _update(self, rows: Sequence[Row]) -> None:
        from sqlalchemy.dialects.postgresql import insert

        with self._writing() as connection:
            wanted = {row.id for row in rows}
            refuse(wanted - self._held(connection, list(wanted)), because="not in the store, use add() for them")
            adding = insert(self._passages)
            new = {name: adding.excluded[name] for name in ("text", "node", "vector")}
            connection.execute(
                adding.on_conflict_do_update(index_elements=["id"], set_=new), [row._asdict() for row in rows]
            )

    def _remove(self, ids: Sequence[str]) -> None:
        with self._writing() as connection:
            refuse(set(ids) - self._held(connection, ids), because="not in the store")
            connection.execute(sa.delete(self._passages).where(self._passages.c.id.in_(ids)))

    def _generation(self) -> int:
        with self._connection() as connection:
            return int(connection.scalars(sa.select(self._about.c.generation)).one())

    def _snapshot(self) -> Snapshot:
        with self._connection() as connection:
            connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            generation = connection.scalars(sa.select(self._about.c.generation)).one()
            rows = connection.execute(sa.select(self._passages.c.id, self._passages.c.text))
            return Snapshot(generation, {row.id: row.text for row in rows})

    def _nodes(self, ids: Sequence[str]) -> list[tuple[str, str]]:
        query = sa.select(self._passages.c.id, self._passages.c.node).where(self._passages.c.id.in_(ids))
        with self._connection() as connection:
            return [(row.id, row.node) for row in connection.execute(query)]

    def _nearest(self, vector: list[float], top_k: int) -> list[tuple[str, float]]:
        distance = self._passages.c.vector.cosine_distance(vector).label("distance")
        query = sa.select(self._passages.c.node, distance).order_by(distance).limit(top_k)
        with self._connection() as connection:
            return [(row.node, 1 - row.distance) for row in connection.execute(query)]

    def _count(self) -> int:
        with self._connection() as connection:
            return connection.scalars(sa.select(sa.func.count()).select_from(self._passages)).one()

    def _held(self, connection: sa.Connection, ids: Sequence[str]) -> set[str]:
        return set(connection.scalars(sa.select(self._passages.c.id).where(self._passages.c.id.in_(ids))))

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """Open a transaction that holds the store until it ends, and count the generation up."""
        with self._connection() as connection:
            milliseconds = f"{max(self._patience * 1000, 1):.0f}"  # 0 would wait for ever
            connection.execute(sa.select(sa.func.set_config("lock_timeout", milliseconds, True)))
            # Microseconds, and not 1, 2, 3: a backup that is put back must not count to the same numbers again.
            now = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1_000_000, sa.BigInteger)
            counted = sa.func.greatest(self._about.c.generation + 1, now)
            connection.execute(sa.update(self._about).values(generation=counted))
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        """Open a transaction; say in our words what the server says, without the password."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) == "55P03":  # lock_not_available
                raise StoreBusy(f"Another program is writing to {self}: wait until it is done, try again.") from None
            raise StoreUnavailable(
                f"{self} cannot be used: {self._said(error)}. Look at host, port, database, user, password and rights."
            ) from None

    def _said(self, error: DBAPIError) -> str:
        said = str(error.orig).strip().partition("\n")[0]
        return said.replace(self._url.password, "***") if self._url.password else said


def _url(address: str) -> sa.URL:
    try:
        url = sa.make_url(address)
    except (ArgumentError, ValueError):  # what they say may hold a part of the password
        url = None
    if url is None or address.count("@") > 1:  # the end of the password would be taken for the host, and shown
        raise ValueError(
            "The address of the database cannot be read: write postgresql://user:password@host:port/database, with "
            "signs such as @ and / in the password as %40 and %2F (urllib.parse.quote_plus makes them)."
        )
    return url.set(drivername="postgresql+psycopg2")


def _tables(name: str, dimension: int) -> tuple[sa.Table, sa.Table]:
    from pgvector.sqlalchemy import Vector

    metadata = sa.MetaData()
    texts: list[sa.Column[Any]] = [sa.Column(column, sa.Text, nullable=False) for column in ("text", "node")]
    key: sa.Column[Any] = sa.Column("id", sa.Text, primary_key=True)
    passages = sa.Table(name, metadata, key, *texts, sa.Column("vector", Vector(dimension), nullable=False))
    counted = sa.Column("generation", sa.BigInteger, nullable=False)
    return passages, sa.Table(f"{name}_about", metadata, sa.Column("about", sa.Text, nullable=False), counted)
