import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import asking
import httpx
import pytest
from asking import client_of
from connector import score_cache as cache
from connector.endpoints import resolve_endpoint
from connector.errors import CacheError, RerankError, RerankTimeout
from connector.protocol import RankResult
from connector.score_cache import MemoryCache, ScoreCache, hash_pairs, rank_missing
from connector.service_facts import ServiceFacts
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def service(service):
    service.models = ["m", "other"]
    return service


@pytest.fixture
def kept():
    return MemoryCache()


@pytest.fixture
def rank(service, kept, way):
    """Rank texts through the cache, sync or async."""

    def ranked(*numbers, query="q", model="m", host="nim", truncate="END", into=kept, **arguments):
        target = resolve_endpoint(f"http://{host}/v1", None, {})
        client = client_of(service, model, target, max_retries=0, score_cache=into, **arguments)
        return asking.rank(client, *numbers, way=way, query=query, truncate=truncate)

    return ranked


def sent(service):
    return [[passage["text"] for passage in body["passages"]] for body in service.bodies]


def test_what_was_scored_once_is_not_sent_again(rank, service):
    rank(1, 2)
    again = rank(3, 2, 4, 1)
    assert again.logits == [3, 2, 4, 1]
    assert (again.cached, again.requests, again.tokens) == (2, 1, 2)
    assert sent(service) == [["1", "2"], ["3", "4"]]


def test_nothing_is_sent_when_all_is_there(rank, service):
    rank(1, 2)
    again = rank(2, 1)
    assert (again.logits, again.cached, again.requests, again.tokens) == ([2, 1], 2, 0, 0)
    assert len(service.requests) == 1


def test_a_passage_that_comes_twice_in_a_call_is_sent_once(rank, service):
    assert rank(7, 8, 7).logits == [7, 8, 7]
    assert sent(service) == [["7", "8"]]


@pytest.mark.parametrize(
    "other",
    [{"query": "other"}, {"model": "other"}, {"host": "other"}, {"truncate": "NONE"}, {"truncate": None}],
    ids=str,
)
def test_whatever_a_score_depends_on_is_asked_for_anew(rank, service, other):
    rank(1)
    rank(1, **other)
    assert len(service.requests) == 2


def test_the_batches_hold_what_is_missing(rank, service):
    rank(1, 3)
    assert rank(1, 2, 3, 4, 5, max_batch_size=2).logits == [1, 2, 3, 4, 5]
    assert sorted(sent(service)[1:]) == [["2", "4"], ["5"]]


def test_a_call_that_fails_keeps_nothing(rank, service, kept):
    service.answers = [httpx.Response(500)]
    with pytest.raises(RerankError):
        rank(1, 2)
    assert kept.get([b"?"]) == kept._scores == {}


def test_a_failing_request_says_which_of_all_passages_it_held(rank, service):
    rank(1, 3)
    service.answers = [httpx.Response(400)]
    with pytest.raises(RerankError) as failed:
        rank(1, 2, 3, 4)
    assert failed.value.passages == [1, 3]


def test_an_error_of_no_request_in_particular_stays_one(rank, monkeypatch):
    async def late(*_):
        raise RerankTimeout("late")

    monkeypatch.setattr(ServiceFacts, "look", late)
    with pytest.raises(RerankTimeout, match="late") as failed:
        rank(1, 2, max_batch_size=1)
    assert failed.value.passages is None


class Broken:
    """Its disk has gone, and its own code has a mistake."""

    def get(self, keys):
        raise CacheError("The disk has gone.")

    def put(self, scores):
        raise KeyError("a mistake")


def test_a_cache_that_breaks_is_reported_once_and_does_not_break_the_call(rank, caplog):
    broken = Broken()
    with caplog.at_level(logging.WARNING):
        assert [rank(1, 2, into=broken).logits for _ in range(2)] == [[1, 2], [1, 2]]
    assert [record.message.split("\n")[0] for record in caplog.records] == [
        "Reranking goes on without its score cache: The disk has gone."
    ]


class Stuck(MemoryCache):
    """Does nothing before it is mended."""

    def __init__(self):
        super().__init__()
        self.mended = threading.Event()

    def get(self, keys):
        self.mended.wait()
        return super().get(keys)

    def put(self, scores):
        self.mended.wait()


def test_a_call_does_not_wait_long_for_its_cache(rank, caplog, monkeypatch):
    monkeypatch.setattr(cache, "WAIT", 0.01)
    stuck = Stuck()
    try:
        ranked = rank(1, into=stuck)
    finally:
        stuck.mended.set()
    assert (ranked.logits, ranked.cached) == ([1], 0)
    assert [record.message.split(": ")[1] for record in caplog.records] == ["it took too long"]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "7", None], ids=str)
def test_a_score_that_is_no_finite_number_is_asked_for_anew(rank, kept, score):
    rank(1, 2)
    kept.put(dict.fromkeys(kept._scores, score))
    assert rank(1, 2).logits == [1, 2]
    assert list(kept._scores.values()) == [1, 2]


def test_a_cache_of_ones_own_needs_two_methods():
    assert isinstance(Broken(), ScoreCache)
    assert not isinstance({}, ScoreCache)


@given(st.lists(st.text(max_size=3), min_size=5, max_size=5), st.lists(st.text(max_size=3), min_size=5, max_size=5))
def test_two_keys_are_the_same_only_for_the_same_parts(one, other):
    def key(service, model, query, text, image):
        return hash_pairs(service, model, query, [{"text": text, "image": image}], "END")

    assert (key(*one) == key(*other)) == (one == other)


def test_an_image_and_a_text_of_the_same_letters_have_different_keys():
    text, image, both = hash_pairs("s", "m", "q", [{"text": "x"}, {"image": "x"}, {"text": "x", "image": "x"}], None)
    assert len({text, image, both}) == 3


@given(st.lists(st.sampled_from([b"a", b"b", b"c", b"d"])), st.sets(st.sampled_from([b"a", b"b", b"c", b"d"])))
def test_what_is_known_and_what_is_asked_for_make_the_whole(keys, known_keys):
    logits = {key: float(key[0]) for key in keys}
    known = MemoryCache()
    known.put({key: logits[key] for key in known_keys if key in logits})
    asked = []

    async def ask(positions):
        asked.extend(keys[position] for position in positions)
        return RankResult([logits[keys[position]] for position in positions])

    whole, fresh = asking.asyncio.run(rank_missing(known, keys, ask, 60))
    assert whole.logits == [logits[key] for key in keys]
    assert sorted(asked) == sorted(fresh) == sorted(set(keys) - known._scores.keys())


def test_the_scores_that_were_not_used_for_longest_go_first_and_looks_are_counted():
    scores = MemoryCache(max_pairs=2)
    scores.put({b"a": 1.5, b"b": -2.0})
    assert scores.get([b"a"]) == {b"a": 1.5}
    scores.put({b"c": 3.0})
    assert scores.get([b"a", b"b", b"c"]) == {b"a": 1.5, b"c": 3.0}
    assert (scores.hits, scores.misses, scores.hit_rate) == (3, 1, 0.75)


def test_threads_may_share_a_memory_cache():
    scores = MemoryCache(max_pairs=50)

    def use(number):
        scores.put({b"%d" % number: float(number)})
        return scores.get([b"%d" % other for other in range(200)])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(use, range(200)))
    assert all(len(one) <= 50 for one in found)
    assert all(score == float(key) for one in found for key, score in one.items())


def test_another_process_begins_with_an_empty_memory_cache():
    scores = MemoryCache(max_pairs=7)
    scores.put({b"a": 1.0})
    copy = pickle.loads(pickle.dumps(scores))
    assert repr(copy) == "MemoryCache(7)"
    assert copy.get([b"a"]) == {}
    with pytest.raises(ValueError, match="max_pairs"):
        MemoryCache(0)
