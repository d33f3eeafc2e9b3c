import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial

import pytest
from connector import disk_cache
from connector.disk_cache import DiskCache
from connector.errors import CacheError
from connector_alias import package_name


def key(number):
    return b"%032d" % number


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.sqlite"


@pytest.fixture
def cache(path):
    with DiskCache(path) as cache:
        yield cache


def test_what_was_put_is_there_and_nothing_else(cache):
    cache.put({key(1): 1.5, key(2): -2.25})
    assert cache.get([key(2), key(1), key(3)]) == {key(1): 1.5, key(2): -2.25}


def test_hits_and_misses_are_counted(cache):
    cache.put({key(1): 1.5})
    assert cache.hit_rate == 0
    cache.get([key(1), key(1), key(1), key(2)])
    assert (cache.hits, cache.misses, cache.hit_rate) == (3, 1, 0.75)


def test_a_later_process_finds_the_scores_to_the_last_bit(cache, path):
    cache.put({key(1): 0.1 + 0.2})
    code = f"from {package_name()} import DiskCache; print(DiskCache({str(path)!r}).get([{key(1)!r}]))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == f"{{{key(1)!r}: {0.1 + 0.2!r}}}\n"


def test_no_more_than_so_many_are_kept_and_the_oldest_go_first(path):
    with DiskCache(path, max_pairs=10) as cache:
        for number in range(25):
            cache.put({key(number): 0.0})
        assert list(cache.get([key(number) for number in range(25)])) == [key(number) for number in range(15, 25)]


def test_a_score_that_is_put_again_stays_as_it_was(cache):
    cache.put({key(1): 1.0})
    cache.put({key(1): 2.0, key(2): 3.0})
    assert cache.get([key(1), key(2)]) == {key(1): 1.0, key(2): 3.0}


def test_threads_may_share_it(cache):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: cache.put({key(number): float(number)}), range(64)))
        found = list(pool.map(lambda number: cache.get([key(number)]), range(64)))
    assert found == [{key(number): float(number)} for number in range(64)]


WRITER = """
import sys
from PACKAGE import DiskCache
first = int(sys.argv[2])
print("open", flush=True)
with DiskCache(sys.argv[1]) as cache:
    for number in range(first, first + 50):
        cache.put({b"%032d" % number: float(number)})
"""


def test_processes_may_make_it_and_share_it_at_the_same_time(path):
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER.replace("PACKAGE", package_name()), path, f"{first}"])
        for first in range(0, 200, 50)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    with DiskCache(path) as cache:
        assert len(cache.get([key(number) for number in range(200)])) == 200


KILLED = """
import sys
from PACKAGE import DiskCache
cache = DiskCache(sys.argv[1])
number = 0
while True:
    cache.put({b"%032d" % (number + one): float(number) for one in range(20)})
    number += 20
    print(number, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no kill -9")
@pytest.mark.parametrize("rounds", [1, 7])
def test_it_survives_a_process_that_is_killed_while_it_writes(path, rounds):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED.replace("PACKAGE", package_name()), path], stdout=subprocess.PIPE, text=True
    ) as writer:
        told = [int(writer.stdout.readline()) for _ in range(rounds)]
        writer.kill()
    with DiskCache(path) as cache:
        found = cache.get([key(number) for number in range(told[-1] + 100_000)])
    assert len(found) >= told[-1]
    assert len(found) % 20 == 0


def damaged_index(path):
    """Make a cache that lacks entries of its index, so that a look-up meets a page that is none."""
    with DiskCache(path) as cache:
        cache.put({key(number): 0.0 for number in range(5000)})
    content = bytearray(path.read_bytes())
    for start in range(3 * 4096, 9 * 4096):
        content[start] = 0xFF
    path.write_bytes(content)


def foreign_table(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine (content TEXT)")
    connection.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("Dear diary, " * 1000), "not a database"),
        (foreign_table, "no score cache"),
        (lambda path: path.mkdir(), "unable to open"),
    ],
    ids=["text", "another database", "folder"],
)
def test_a_file_that_is_no_healthy_cache_is_refused_and_left_as_it_is(path, make, words):
    make(path)
    before = path.is_file() and path.read_bytes()
    with pytest.raises(CacheError, match=words):
        DiskCache(path)
    assert (path.is_file() and path.read_bytes()) == before


def test_damage_is_an_error_of_the_cache_when_it_is_met(path):
    damaged_index(path)
    with DiskCache(path) as cache, pytest.raises(CacheError, match="malformed"):
        cache.get([key(number) for number in range(5000)])


def test_a_folder_that_is_not_there_is_an_error_that_says_what_to_look_at(path):
    with pytest.raises(CacheError, match="Is its folder there"):
        DiskCache(path / "in" / "nowhere")


@pytest.mark.parametrize("max_pairs", [0, -1])
def test_a_cache_for_nothing_is_refused(path, max_pairs):
    with pytest.raises(ValueError, match="max_pairs"):
        DiskCache(path, max_pairs)


def test_another_process_that_writes_for_long_is_not_waited_for(cache, path):
    cache._file.connection.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    cache.get([key(1)])  # reading does not wait
    with pytest.raises(CacheError, match="locked"):
        cache.put({key(1): 1.0})
    other.close()
    cache.put({key(1): 1.0})
    assert cache.get([key(1)]) == {key(1): 1.0}


def test_threads_do_not_queue_up_behind_one_that_waits(cache, monkeypatch):
    monkeypatch.setattr(disk_cache, "BUSY", 0.01)
    with cache._use_connection(), ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(cache.get, [key(1)])
        with pytest.raises(CacheError, match="in use by other threads"):
            stuck.result()
    assert cache.get([key(1)]) == {}


def test_closing_waits_for_the_thread_that_uses_the_file(cache):
    with ThreadPoolExecutor(1) as pool:
        with cache._use_connection() as connection:
            closing = pool.submit(cache.close)
            assert not wait([closing], timeout=0.05).done
            connection.execute("SELECT count(*) FROM scores")
        closing.result()
    with pytest.raises(CacheError, match="closed"):
        cache.get([key(1)])


def test_another_process_that_prepares_the_file_at_this_moment_is_no_error(path, monkeypatch):
    class Contended(sqlite3.Connection):
        """As SQLite behaves where two want to change the journal: it does not wait."""

        def execute(self, statement, *values):
            if "journal_mode" in statement:
                raise sqlite3.OperationalError("database is locked")
            return super().execute(statement, *values)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Contended))
    with DiskCache(path) as cache:
        cache.put({key(1): 1.0})
        assert cache.get([key(1)]) == {key(1): 1.0}


def test_a_pickled_cache_opens_the_same_file(cache, path):
    cache.put({key(1): 1.0})
    with pickle.loads(pickle.dumps(cache)) as copy:
        assert repr(copy) == f"DiskCache({str(path)!r}, 1000000)"
        assert copy.get([key(1)]) == {key(1): 1.0}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_a_fork_the_child_opens_the_file_for_itself(cache):
    cache.put({key(1): 1.0})
    child = os.fork()
    if child == 0:
        cache.put({key(2): 2.0})
        os._exit(0 if cache.get([key(1)]) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache.get([key(2)]) == {key(2): 2.0}


def test_what_a_parent_process_opened_is_neither_used_nor_closed(cache):
    inherited = cache._file._replace(process=-1)  # as it looks to a child
    cache._file = inherited
    cache.put({key(1): 1.0})
    inherited.close()
    assert cache._file.connection is not inherited.connection
    assert inherited.connection.execute("SELECT count(*) FROM scores").fetchone() == (1,)
    inherited.connection.close()


def test_the_threads_of_a_child_never_use_what_the_parent_opened(cache, monkeypatch):
    inherited = cache._file = cache._file._replace(process=-1)
    others = []

    def open_while_another_thread_asks(self, patience):
        with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
            patch.setattr(DiskCache, "_open", opened)
            others.append(pool.submit(lambda: self._use_connection().__enter__()).result())
        return opened(self, patience)

    opened = DiskCache._open
    monkeypatch.setattr(DiskCache, "_open", open_while_another_thread_asks)
    cache.put({key(1): 1.0})
    assert others
    assert inherited.connection not in [*others, cache._file.connection]
    inherited.connection.close()


def test_a_child_does_not_wait_long_for_a_file_that_is_locked(cache, path, monkeypatch):
    monkeypatch.setattr(disk_cache, "BUSY", 0.01)
    monkeypatch.setattr(disk_cache, "OPENING", 3600.0)  # whoever waits so long is not waiting for a query
    inherited = cache._file = cache._file._replace(process=-1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CacheError, match="locked"):
        cache.get([key(1)])
    other.close()
    inherited.connection.close()


def test_a_child_that_cannot_open_the_file_does_not_fall_back_on_the_parents(cache, monkeypatch):
    cache._file = cache._file._replace(process=-1)
    monkeypatch.setattr(cache, "path", cache.path / "nowhere")
    for _ in range(2):
        with pytest.raises(CacheError, match="unable to open"):
            cache.get([key(1)])
    cache._file.connection.close()


def test_no_text_is_in_the_file(cache, path):
    cache.put({key(1): 1.0})
    tables = cache._file.connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    assert len(tables) == 1
    assert cache._file.connection.execute("SELECT count(*), sum(length(pair)) FROM scores").fetchone() == (1, 32)
