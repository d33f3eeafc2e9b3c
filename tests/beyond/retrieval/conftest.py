import os
from functools import partial
from uuid import uuid4

import pytest
import sqlalchemy as sa
from postgres_server import run_server

from nvrerank_helpers.retrieval import LanceStore, PostgresStore


@pytest.fixture(scope="session")
def postgres_url():
    """The server that NVRERANK_POSTGRES_URL names, or one that runs during the tests."""
    if given := os.environ.get("NVRERANK_POSTGRES_URL"):
        yield given
    else:
        with run_server() as url:
            yield url


@pytest.fixture
def postgres(postgres_url):
    engine = sa.create_engine(sa.make_url(postgres_url).set(drivername="postgresql+psycopg2"), poolclass=sa.NullPool)
    return engine.execution_options(isolation_level="AUTOCOMMIT")


@pytest.fixture
def table(postgres):
    """The name of a table that is dropped after the test."""
    name = f"test_{uuid4().hex[:12]}"
    yield name
    with postgres.connect() as connection:
        connection.execute(sa.text(f"DROP TABLE IF EXISTS {name}, {name}_about"))


@pytest.fixture(params=["lance", "postgres"])
def open_again(request, tmp_path):
    """A function that opens the same store, over either database, each time it is called."""
    if request.param == "lance":
        return partial(LanceStore, tmp_path / "store")
    url, table = request.getfixturevalue("postgres_url"), request.getfixturevalue("table")
    return partial(PostgresStore, url, table, folder=tmp_path)
