import socket
import traceback

import pytest
import sqlalchemy as sa
from llama_index.core.schema import TextNode
from memory_store import Hashed
from postgres_server import PASSWORD, PASSWORD_IN_ADDRESS, find_free_port

from nvrerank_helpers.retrieval import PostgresStore, StoreUnavailable

NODES = [TextNode(id_="a", text="two roads"), TextNode(id_="b", text="a yellow wood")]


@pytest.fixture
def weak_role(postgres, postgres_url):
    """URL of a database whose owner may not create extensions."""
    with postgres.connect() as connection:
        for statement in (
            "CREATE ROLE weak LOGIN PASSWORD 'weak'",
            "CREATE DATABASE weak OWNER weak",
        ):
            connection.execute(sa.text(statement))
        yield sa.make_url(postgres_url).set(username="weak", password="weak", database="weak")
        for statement in ("DROP DATABASE weak WITH (FORCE)", "DROP ROLE weak"):
            connection.execute(sa.text(statement))


def render(url):
    return url.render_as_string(hide_password=False)


def format_error(error):
    """Return all that Python prints of an error."""
    return "".join(traceback.format_exception(error)) + repr(error)


def test_a_wrong_password_is_refused_and_not_repeated(postgres_url, tmp_path):
    wrong = sa.make_url(postgres_url).set(password="wr0ng/pass")
    with pytest.raises(StoreUnavailable, match="password authentication failed") as caught:
        PostgresStore(render(wrong), folder=tmp_path)
    assert "wr0ng" not in format_error(caught.value)


def test_a_server_that_does_not_answer_is_named_without_the_password(tmp_path):
    with pytest.raises(StoreUnavailable, match=r"Connection refused.*Look at host, port") as caught:
        PostgresStore(f"postgresql://me:{PASSWORD_IN_ADDRESS}@127.0.0.1:{find_free_port()}/texts", folder=tmp_path)
    assert PASSWORD not in format_error(caught.value)
    assert PASSWORD_IN_ADDRESS not in format_error(caught.value)


def test_a_missing_database_is_named(postgres_url, tmp_path):
    with pytest.raises(StoreUnavailable, match='database "nowhere" does not exist'):
        PostgresStore(render(sa.make_url(postgres_url).set(database="nowhere")), folder=tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        "postgresql://me:pa:s3cret@host:s3cret/db",
        "postgresql:s3cret",
        "postgresql://me:p@s3cret@host/db",
        "postgresql://me:p@s3cret/x@host/db",
    ],
)
def test_an_address_that_cannot_be_read_is_not_repeated(wrong):
    with pytest.raises(ValueError, match="cannot be read") as caught:
        PostgresStore(wrong)
    assert "s3cret" not in format_error(caught.value)


def test_a_store_does_not_show_its_password(postgres_url, table, tmp_path):
    store = PostgresStore(postgres_url, table, folder=tmp_path)
    shown = f"{store!r} {store} {store._url!r} {store._engine!r}"
    assert table in repr(store)
    assert PASSWORD not in shown
    assert PASSWORD_IN_ADDRESS not in shown


def test_without_pgvector_the_error_says_what_to_do(weak_role, tmp_path):
    with pytest.raises(StoreUnavailable, match=r"permission denied.*postgresql-NN-pgvector.*CREATE EXTENSION vector"):
        PostgresStore(render(weak_role), folder=tmp_path)


def test_a_role_without_write_access_can_search_but_not_change(weak_role, postgres_url, table, tmp_path, postgres):
    PostgresStore(postgres_url, table, Hashed(), folder=tmp_path).add(NODES)
    with postgres.connect() as connection:
        connection.execute(sa.text(f"GRANT SELECT ON {table}, {table}_about TO weak"))
        reader = sa.make_url(postgres_url).set(username="weak", password="weak")
        store = PostgresStore(render(reader), table, Hashed(), folder=tmp_path)
        assert store.retriever().retrieve("yellow")[0].node_id == "b"
        with pytest.raises(StoreUnavailable, match="permission denied"):
            store.delete(["a"])
        connection.execute(sa.text("DROP OWNED BY weak"))


@pytest.mark.parametrize("name", ["", "Passages", "a; DROP TABLE b", 'a"b', "1st", "a" * 51, "ä"])
def test_a_wrong_name_of_a_table_is_refused(name):
    with pytest.raises(ValueError, match="cannot be the name of a table"):
        PostgresStore("postgresql://host/db", name)


def test_a_table_of_another_program_is_refused(postgres_url, postgres, table, tmp_path):
    with postgres.connect() as connection:
        connection.execute(sa.text(f"CREATE TABLE {table} (id int)"))
    with pytest.raises(StoreUnavailable, match="is not a store: choose another name"):
        PostgresStore(postgres_url, table, folder=tmp_path)


def test_a_keyword_of_sql_may_be_the_name_of_a_table(postgres_url, postgres, tmp_path):
    PostgresStore(postgres_url, "select", Hashed(), folder=tmp_path).add(NODES)
    with postgres.connect() as connection:
        assert connection.scalar(sa.text('SELECT count(*) FROM "select"')) == 2
        connection.execute(sa.text('DROP TABLE "select", select_about'))


def test_a_connection_that_the_server_closed_is_replaced(postgres_url, postgres, table, tmp_path):
    store = PostgresStore(postgres_url, table, Hashed(), folder=tmp_path)
    store.add(NODES)
    with store._engine.connect() as connection:  # the pool's only one, which the next query will get
        backend = connection.scalar(sa.text("SELECT pg_backend_pid()"))
    with postgres.connect() as connection:
        connection.execute(sa.text(f"SELECT pg_terminate_backend({backend})"))
    assert store.retriever().retrieve("yellow")[0].node_id == "b"


def test_another_machine_builds_its_own_bm25_index(postgres_url, table, tmp_path):
    PostgresStore(postgres_url, table, Hashed(), folder=tmp_path / "one").add(NODES)
    elsewhere = PostgresStore(postgres_url, table, Hashed(), folder=tmp_path / "two")
    assert elsewhere.ids("bm25") == {"a", "b"}


def test_the_index_of_a_later_state_is_not_used_after_a_backup_was_restored(postgres_url, postgres, table, tmp_path):
    store = PostgresStore(postgres_url, table, Hashed(), folder=tmp_path)
    store.add(NODES[:1])
    with postgres.connect() as connection:
        backup = connection.scalar(sa.text(f"SELECT generation FROM {table}_about"))
        store.add(NODES[1:])
        assert store.ids("bm25") == {"a", "b"}
        connection.execute(sa.text(f"DELETE FROM {table} WHERE id = 'b'"))
        connection.execute(sa.text(f"UPDATE {table}_about SET generation = {backup}"))
    store.add([TextNode(id_="c", text="snow")])
    assert PostgresStore(postgres_url, table, Hashed(), folder=tmp_path).ids("bm25") == {"a", "c"}


def test_a_read_only_server_can_be_searched_but_not_changed(postgres_url, table, tmp_path):
    PostgresStore(postgres_url, table, Hashed(), folder=tmp_path).add(NODES)
    standby = f"{postgres_url}?options=-c%20default_transaction_read_only%3Don"
    store = PostgresStore(standby, table, Hashed(), folder=tmp_path)
    assert store.ids("bm25") == {"a", "b"}
    with pytest.raises(StoreUnavailable, match="read-only transaction"):
        store.delete(["a"])


def test_a_server_that_hangs_is_not_waited_for_forever(monkeypatch, tmp_path):
    monkeypatch.setattr("nvrerank_helpers.retrieval.stores.postgres.CONNECT_SECONDS", 2)  # the least that libpq accepts
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(StoreUnavailable, match="timeout expired"):
        PostgresStore(f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/texts", folder=tmp_path)


def test_a_snapshot_is_of_one_moment(postgres_url, table, tmp_path):
    one, other = (PostgresStore(postgres_url, table, Hashed(), folder=tmp_path) for _ in range(2))
    one.add(NODES[:1])
    before = one._take_snapshot()

    @sa.event.listens_for(one._engine, "before_cursor_execute")
    def commit_in_between(connection, cursor, statement, *_):
        if f"{table}.text" in statement:
            other.add(NODES[1:])

    assert one._take_snapshot() == before
