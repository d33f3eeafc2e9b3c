import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from connector.memory_cache import MemoryCache
from connector.score_cache import ScoreCache


def test_what_was_put_is_there_and_nothing_else():
    cache = MemoryCache()
    cache.put({b"a": 1.5, b"b": -2.0})
    assert cache.get([b"b", b"c"]) == {b"b": -2.0}
    assert (cache.hits, cache.misses, cache.hit_rate) == (1, 1, 0.5)


def test_it_is_a_score_cache():
    assert isinstance(MemoryCache(), ScoreCache)


def test_the_one_that_was_not_used_for_longest_goes_first():
    cache = MemoryCache(max_pairs=2)
    cache.put({b"a": 1.0, b"b": 2.0})
    cache.get([b"a"])
    cache.put({b"c": 3.0})
    assert cache.get([b"a", b"b", b"c"]) == {b"a": 1.0, b"c": 3.0}


def test_threads_may_share_it():
    cache = MemoryCache(max_pairs=50)

    def use(number):
        cache.put({b"%d" % number: float(number)})
        return cache.get([b"%d" % other for other in range(200)])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(use, range(200)))
    assert all(len(one) <= 50 for one in found)
    assert all(score == float(key) for one in found for key, score in one.items())


def test_another_process_begins_with_an_empty_one():
    cache = MemoryCache(max_pairs=7)
    cache.put({b"a": 1.0})
    copy = pickle.loads(pickle.dumps(cache))
    assert repr(copy) == "MemoryCache(7)"
    assert copy.get([b"a"]) == {}


def test_a_cache_for_nothing_is_refused():
    with pytest.raises(ValueError, match="max_pairs"):
        MemoryCache(0)
