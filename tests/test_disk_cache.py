import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from nvrerank_helpers.disk_cache import DiskCache, _close_in
from nvrerank_helpers.errors import CacheError


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
    code = f"from nvrerank_helpers.disk_cache import DiskCache; print(DiskCache({str(path)!r}).get([{key(1)!r}]))"
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
from nvrerank_helpers.disk_cache import DiskCache
first = int(sys.argv[2])
print("open", flush=True)
with DiskCache(sys.argv[1]) as cache:
    for number in range(first, first + 50):
        cache.put({b"%032d" % number: float(number)})
"""


def test_processes_may_make_it_and_share_it_at_the_same_time(path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, f"{first}"]) for first in range(0, 200, 50)]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    with DiskCache(path) as cache:
        assert len(cache.get([key(number) for number in range(200)])) == 200


KILLED = """
import sys
from nvrerank_helpers.disk_cache import DiskCache
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
    with subprocess.Popen([sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, text=True) as writer:
        told = [int(writer.stdout.readline()) for _ in range(rounds)]
        writer.kill()
    with DiskCache(path) as cache:
        found = cache.get([key(number) for number in range(told[-1] + 100_000)])
    assert len(found) >= told[-1]
    assert len(found) % 20 == 0


def damaged_index(path):
    """Make a cache that lacks entries of its index, which `quick_check` sees by counting."""
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
        (damaged_index, "damaged|malformed"),
        (lambda path: path.mkdir(), "unable to open"),
    ],
    ids=["text", "another database", "damaged", "folder"],
)
def test_a_file_that_is_no_healthy_cache_is_refused_and_left_as_it_is(path, make, words):
    make(path)
    before = path.is_file() and path.read_bytes()
    with pytest.raises(CacheError, match=words):
        DiskCache(path)
    assert (path.is_file() and path.read_bytes()) == before


def test_a_folder_that_is_not_there_is_an_error_that_says_what_to_look_at(path):
    with pytest.raises(CacheError, match="Is its folder there"):
        DiskCache(path / "in" / "nowhere")


@pytest.mark.parametrize("max_pairs", [0, -1])
def test_a_cache_for_nothing_is_refused(path, max_pairs):
    with pytest.raises(ValueError, match="max_pairs"):
        DiskCache(path, max_pairs)


def test_another_process_that_writes_for_long_is_not_waited_for(cache, path, monkeypatch):
    cache._connection.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    cache.get([key(1)])  # reading does not wait
    with pytest.raises(CacheError, match="locked"):
        cache.put({key(1): 1.0})
    other.close()
    cache.put({key(1): 1.0})
    assert cache.get([key(1)]) == {key(1): 1.0}


def test_a_closed_cache_says_so(path):
    cache = DiskCache(path)
    cache.close()
    with pytest.raises(CacheError, match="closed"):
        cache.get([key(1)])


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
    inherited = cache._connection
    cache._process = -1  # as it looks to a child
    cache.put({key(1): 1.0})
    _close_in(-1, inherited)
    assert cache._connection is not inherited
    assert inherited.execute("SELECT count(*) FROM scores").fetchone() == (1,)
    inherited.close()


def test_no_text_is_in_the_file(cache, path):
    cache.put({key(1): 1.0})
    tables = cache._connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    assert len(tables) == 1
    assert cache._connection.execute("SELECT count(*), sum(length(pair)) FROM scores").fetchone() == (1, 32)
