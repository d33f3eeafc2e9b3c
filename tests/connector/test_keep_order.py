import copy
import logging
import pickle
import traceback
from functools import partial

import asking
import httpx
import pytest
from asking import KEY, ids, reranker_of
from connector import NVIDIARerank
from connector.errors import ModelRetired, RateLimited, ServerError
from connector.rate_limit import RateLimit
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

TEXT = "a confidential sentence"
make = partial(reranker_of, on_failure="keep_order", max_retries=0)


@pytest.fixture
def rerank(way):
    return lambda reranker, found, query="q": asking.rerank(reranker, found, way, query)


@pytest.fixture
def broken(service):
    service.answers = [httpx.Response(500, json={"detail": f"{TEXT} {KEY}"}) for _ in range(10)]
    return service


def nodes(*numbers):
    return [
        NodeWithScore(node=TextNode(id_=f"n{number}", text=str(number)), score=1 / position)
        for position, number in enumerate(numbers, start=1)
    ]


@pytest.mark.parametrize(("top_n", "count"), [(2, 2), (9, 3), (None, 3), (0, 0)])
def test_a_failing_call_returns_the_first_nodes_as_they_came(rerank, broken, top_n, count):
    found = nodes(1, 3, 2)
    before = [node.model_copy(deep=True) for node in found]
    got = rerank(make(broken, top_n=top_n, min_score=100), found)
    assert ids(got) == ["n1", "n3", "n2"][:count]
    assert [node.score for node in got] == [1, 1 / 2, 1 / 3][:count]
    for node in got:
        node.metadata["mine"] = True
    assert found == before


def test_each_kept_node_is_marked_where_people_see_it_and_models_do_not(rerank, broken):
    kept = rerank(make(broken), nodes(1, 3))[1]
    assert kept.metadata == {"first_stage_rank": 2, "first_stage_score": 0.5, "rerank_failed": "ServerError"}
    assert [kept.node.get_content(mode) for mode in (MetadataMode.LLM, MetadataMode.EMBED)] == ["3", "3"]


def test_a_node_without_a_score_keeps_none(rerank, broken):
    kept = rerank(make(broken), [NodeWithScore(node=TextNode(text="1"))])[0]
    assert (kept.score, kept.metadata["first_stage_score"]) == (None, None)


def test_failure_and_marks_go_with_the_next_success(rerank, service):
    subject = make(service)
    assert subject.last_failure is None
    service.answers = [httpx.Response(500, text="out of memory")]
    kept = rerank(subject, nodes(1, 3))
    assert isinstance(subject.last_failure, ServerError)
    assert subject.last_failure.node_ids == ["n1", "n3"]
    best = rerank(subject, kept)
    assert subject.last_failure is None
    assert [sorted(node.metadata) for node in best] == [["first_stage_rank", "first_stage_score"]] * 2
    assert kept[0].metadata["rerank_failed"] == "ServerError"


def test_the_failure_holds_neither_texts_nor_requests(rerank, service):
    service.answers = [httpx.ConnectError("refused")]
    subject = make(service, api_key=KEY)
    rerank(subject, nodes(1))
    error = subject.last_failure
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)
    assert KEY not in "".join(traceback.format_exception(error))


def test_event_and_log_say_what_to_do_and_neither_texts_nor_key(rerank, broken, recorder, caplog):
    with caplog.at_level(logging.WARNING):
        kept = rerank(make(broken, api_key=KEY), nodes(TEXT))
    start, failed, end = recorder.events
    names = [event.class_name() for event in recorder.events]
    assert names == ["ReRankStartEvent", "RerankFailedEvent", "ReRankEndEvent"]
    assert (failed.error, failed.model_name, failed.nodes) == ("ServerError", "m", 1)
    assert (len(start.nodes), end.nodes) == (1, kept)
    shown = [failed.model_dump_json(), *(record.getMessage() for record in caplog.records)]
    assert len(shown) == 2
    for text in shown:
        assert "ServerError (status 500, model m, address http://nim:1976/v1/ranking)" in text
        assert "What to do: Try again" in text
        assert TEXT not in text
        assert KEY not in text


def test_mistakes_of_the_caller_raise_all_the_same(rerank, broken):
    with pytest.raises(ValueError, match="needs a query"):
        rerank(make(broken), nodes(1), "")
    with pytest.raises(ModelRetired):
        make(broken, base_url=None, model="nvidia/llama-3.2-nv-rerankqa-1b-v2", api_key=KEY)
    with pytest.raises(ValueError, match="on_failure"):
        make(broken, on_failure="ignore")
    with pytest.raises(ValueError, match="on_failure"):
        make(broken).on_failure = "ignore"


def test_a_choice_that_is_assigned_holds_from_then_on(rerank, broken):
    subject = make(broken, on_failure="raise")
    with pytest.raises(ServerError):
        rerank(subject, nodes(1))
    subject.on_failure = "keep_order"
    assert ids(rerank(subject, nodes(1))) == ["n1"]


def test_the_choice_stays_through_copies_pickles_and_dictionaries(service):
    subject = make(service)
    pickled = NVIDIARerank(base_url="http://nim/v1", model="m", on_failure="keep_order")
    others = [copy.copy(subject), copy.deepcopy(subject), NVIDIARerank.from_dict(subject.to_dict())]
    others.append(pickle.loads(pickle.dumps(pickled)))
    assert [other.on_failure for other in others] == ["keep_order"] * 4


def test_one_failing_batch_keeps_the_order_of_all(rerank, service):
    service.answers = [httpx.Response(500)]
    assert ids(rerank(make(service, max_batch_size=1, top_n=None), nodes(1, 3, 2))) == ["n1", "n3", "n2"]


@pytest.mark.parametrize("how", ["given", "assigned", "shared"])
def test_a_rate_limit_that_leaves_no_time_keeps_the_order_and_sends_nothing(rerank, service, how):
    limit = RateLimit(1, 3600)
    first = make(service, deadline=60, rate_limit=None if how == "assigned" else limit)
    first.rate_limit = limit
    second = make(service, rate_limit=limit) if how == "shared" else first
    assert ids(rerank(first, nodes(1, 2))) == ["n2", "n1"]
    assert ids(rerank(second, nodes(1, 2))) == ["n1", "n2"]
    assert isinstance(second.last_failure, RateLimited)
    assert len(service.requests) == 1
