"""The reasons for our own stores. When one of these tests fails, LlamaIndex's class may be good enough by now."""

import pytest
import sqlalchemy as sa
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery

NODE = TextNode(id_="a", text="two roads", metadata={"page": 1}, embedding=[1.0, 0.0])


@pytest.fixture
def lance(tmp_path):
    from llama_index.vector_stores.lancedb import LanceDBVectorStore

    store = LanceDBVectorStore(uri=str(tmp_path))
    store.add([NODE])
    return store


@pytest.fixture
def postgres_store(postgres_url, postgres, table):
    from llama_index.vector_stores.postgres import PGVectorStore

    address = postgres_url.removeprefix("postgresql")
    store = PGVectorStore(f"postgresql+psycopg2{address}", f"postgresql+asyncpg{address}", table, embed_dim=2)
    yield store
    store._engine.dispose()
    with postgres.connect() as connection:
        connection.execute(sa.text(f"DROP TABLE IF EXISTS data_{table}"))


@pytest.mark.filterwarnings("ignore:table_names:DeprecationWarning")
@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda store: store.delete_nodes(["a"]), "No field named a"),
        (lambda store: store.add([NODE.model_copy(update={"id_": "b", "metadata": {"title": "t"}})]), "title"),
    ],
    ids=["delete by node id", "other metadata keys"],
)
def test_lancedb_fails(lance, attempt, message):
    with pytest.raises(ValueError, match=message):
        attempt(lance)


@pytest.mark.filterwarnings("ignore:table_names:DeprecationWarning")
def test_lancedb_keeps_an_id_twice_and_scores_otherwise(lance):
    lance.add([NODE])
    found = lance.query(VectorStoreQuery(query_embedding=[0.8, 0.6], similarity_top_k=5))
    assert found.ids == ["a", "a"]
    assert found.similarities == pytest.approx([0.6703] * 2, abs=1e-3)  # exp(-0.4), and the cosine is 0.8


def test_postgres_keeps_an_id_twice_and_shows_the_password(postgres_store):
    postgres_store.add([NODE])
    postgres_store.add([NODE])
    found = postgres_store.query(VectorStoreQuery(query_embedding=[0.8, 0.6], similarity_top_k=5))
    assert found.ids == ["a", "a"]
    assert postgres_store.connection_string in repr(postgres_store)
