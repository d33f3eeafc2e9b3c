import asyncio
import copy
import logging
import pickle
import traceback

import httpx
import pytest
from connector import NVIDIARerank
from connector.errors import ModelRetired, RateLimited, ServerError
from connector.rate_limit import RateLimit
from fake_service import FakeService
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

KEY = "nvapi-secret-of-the-test"
TEXT = "a confidential sentence"


@pytest.fixture
def service():
    return FakeService()


def reranker(service, **arguments):
    given = {"base_url": "http://nim:1976/v1", "model": "m", "on_failure": "keep_order", "max_retries": 0}
    clients = {"http_client": service.client(), "async_http_client": service.async_client()}
    return NVIDIARerank(**given | clients | arguments)


def nodes(*numbers):
    return [
        NodeWithScore(node=TextNode(id_=f"n{n}", text=str(n)), score=1 / position)
        for position, n in enumerate(numbers, start=1)
    ]


def ids(found):
    return [node.node_id for node in found]


@pytest.fixture(params=["sync", "async"])
def rerank(request):
    def reranked(subject, found, query="q"):
        if request.param == "sync":
            return subject.postprocess_nodes(found, query_str=query)
        return asyncio.run(subject.apostprocess_nodes(found, query_str=query))

    return reranked


@pytest.fixture
def broken(service):
    service.answers = [httpx.Response(500, json={"detail": f"{TEXT} {KEY}"}) for _ in range(10)]
    return service


class Recorder(BaseEventHandler):
    """Keeps the events of reranking."""

    events: list

    def handle(self, event, **_):
        if event.class_name().lower().startswith("rerank"):
            self.events.append(event)


@pytest.fixture
def recorder():
    handler, dispatcher = Recorder(events=[]), get_dispatcher()
    dispatcher.add_event_handler(handler)
    yield handler
    dispatcher.event_handlers.remove(handler)


@pytest.mark.parametrize(("top_n", "count"), [(2, 2), (9, 3), (None, 3), (0, 0)])
def test_a_failing_call_returns_the_first_nodes_as_they_came(rerank, broken, top_n, count):
    found = nodes(1, 3, 2)
    got = rerank(reranker(broken, top_n=top_n), found)
    assert ids(got) == ["n1", "n3", "n2"][:count]
    assert [node.score for node in got] == [1, 1 / 2, 1 / 3][:count]


def test_each_kept_node_is_marked_where_people_see_it_and_models_do_not(rerank, broken):
    kept = rerank(reranker(broken), nodes(1, 3))[1]
    assert kept.metadata == {"first_stage_rank": 2, "first_stage_score": 0.5, "rerank_failed": "ServerError"}
    assert [kept.node.get_content(mode) for mode in (MetadataMode.LLM, MetadataMode.EMBED)] == ["3", "3"]


def test_what_was_passed_in_stays_as_it_was(rerank, broken):
    found = nodes(1, 2)
    before = [node.model_copy(deep=True) for node in found]
    rerank(reranker(broken), found)[0].metadata["mine"] = True
    assert found == before


def test_a_node_without_a_score_keeps_none(rerank, broken):
    kept = rerank(reranker(broken), [NodeWithScore(node=TextNode(text="1"))])[0]
    assert (kept.score, kept.metadata["first_stage_score"]) == (None, None)


def test_min_score_is_not_held_against_the_scores_of_the_first_stage(rerank, broken):
    assert ids(rerank(reranker(broken, min_score=100), nodes(1, 2))) == ["n1", "n2"]


def test_the_failure_can_be_looked_at_and_goes_with_the_next_success(rerank, service):
    subject = reranker(service)
    assert subject.last_failure is None
    service.answers = [httpx.Response(500, text="out of memory")]
    rerank(subject, nodes(1, 2))
    assert isinstance(subject.last_failure, ServerError)
    assert subject.last_failure.node_ids == ["n1", "n2"]
    rerank(subject, nodes(1, 2))
    assert subject.last_failure is None


def test_the_failure_holds_neither_texts_nor_requests(rerank, service):
    service.answers = [httpx.ConnectError("refused")]
    subject = reranker(service, api_key=KEY)
    rerank(subject, nodes(1))
    error = subject.last_failure
    assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)
    assert KEY not in "".join(traceback.format_exception(error))


def test_without_failure_nothing_is_marked(rerank, service):
    best = rerank(reranker(service), nodes(1, 3))[0]
    assert best.metadata == {"first_stage_rank": 2, "first_stage_score": 0.5}


def test_a_mark_of_an_earlier_failure_goes_when_the_nodes_are_reranked(rerank, service):
    subject = reranker(service)
    service.answers = [httpx.Response(500)]
    kept = rerank(subject, nodes(1, 3))
    assert [sorted(node.metadata) for node in rerank(subject, kept)] == [["first_stage_rank", "first_stage_score"]] * 2
    assert kept[0].metadata["rerank_failed"] == "ServerError"


def test_an_event_tells_of_the_failure_between_start_and_end(rerank, broken, recorder):
    kept = rerank(reranker(broken), nodes(1, 2, 3))
    start, failed, end = recorder.events
    assert (start.class_name(), end.class_name()) == ("ReRankStartEvent", "ReRankEndEvent")
    assert (failed.class_name(), failed.error, failed.model_name, failed.nodes) == (
        "RerankFailedEvent",
        "ServerError",
        "m",
        3,
    )
    assert end.nodes == kept


def test_event_and_log_tell_what_to_do_and_neither_texts_nor_key(rerank, broken, recorder, caplog):
    with caplog.at_level(logging.WARNING):
        rerank(reranker(broken, api_key=KEY), nodes(TEXT))
    said = [recorder.events[1].model_dump_json(), *(record.getMessage() for record in caplog.records)]
    assert len(said) == 2
    assert all("ServerError (status 500, model m, address http://nim:1976/v1/ranking)" in words for words in said)
    assert all("What to do: Try again" in words for words in said)
    assert not any(secret in words for words in said for secret in (TEXT, KEY))


def test_a_mistake_of_the_caller_raises_all_the_same(rerank, broken):
    with pytest.raises(ValueError, match="needs a query"):
        rerank(reranker(broken), nodes(1), "")


def test_a_model_that_is_gone_raises_when_the_reranker_is_made(service):
    with pytest.raises(ModelRetired):
        reranker(service, base_url=None, model="nvidia/llama-3.2-nv-rerankqa-1b-v2", api_key=KEY)


def test_another_choice_is_refused(service):
    with pytest.raises(ValueError, match="on_failure"):
        reranker(service, on_failure="ignore")
    with pytest.raises(ValueError, match="on_failure"):
        reranker(service).on_failure = "ignore"


def test_a_choice_that_is_assigned_holds_from_then_on(rerank, broken):
    subject = reranker(broken, on_failure="raise")
    with pytest.raises(ServerError):
        rerank(subject, nodes(1))
    subject.on_failure = "keep_order"
    assert ids(rerank(subject, nodes(1))) == ["n1"]


def test_the_choice_stays_through_copies_pickles_and_dictionaries(service):
    subject = reranker(service)
    others = [copy.copy(subject), copy.deepcopy(subject), NVIDIARerank.from_dict(subject.to_dict())]
    pickled = NVIDIARerank(base_url="http://nim/v1", model="m", on_failure="keep_order")
    others.append(pickle.loads(pickle.dumps(pickled)))
    assert [other.on_failure for other in others] == ["keep_order"] * 4


def test_one_failing_batch_keeps_the_order_of_all(rerank, service):
    service.answers = [httpx.Response(500)]
    assert ids(rerank(reranker(service, max_batch_size=1, top_n=None), nodes(1, 3, 2))) == ["n1", "n3", "n2"]


def test_a_rate_limit_that_leaves_no_time_keeps_the_order_and_sends_nothing(rerank, service):
    subject = reranker(service, rate_limit=RateLimit(1, 3600), deadline=60)
    assert ids(rerank(subject, nodes(1, 2))) == ["n2", "n1"]
    assert ids(rerank(subject, nodes(1, 2))) == ["n1", "n2"]
    assert isinstance(subject.last_failure, RateLimited)
    assert len(service.requests) == 1


def test_a_rate_limit_that_is_assigned_holds_from_then_on(rerank, service):
    subject = reranker(service)
    subject.rate_limit = RateLimit(1, 3600)
    assert [rerank(subject, nodes(1))[0].metadata.get("rerank_failed") for _ in range(2)] == [None, "RateLimited"]


def test_several_rerankers_share_one_limit(rerank, service):
    limit = RateLimit(1, 3600)
    first, second = (reranker(service, rate_limit=limit) for _ in range(2))
    rerank(first, nodes(1, 2))
    assert rerank(second, nodes(1, 2))[0].metadata["rerank_failed"] == "RateLimited"
