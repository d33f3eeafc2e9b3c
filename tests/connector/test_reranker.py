import copy
import pickle

import asking
import httpx
import pytest
from asking import KEY, ids, nodes, reranker_of
from connector import NVIDIARerank
from connector.disk_cache import DiskCache
from connector.errors import ModelRetired, RerankError
from connector.models import DEFAULT_MODEL
from connector.rate_limit import RateLimit
from http_fake import serving
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms.mock import MockLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step

RETIRED = "nvidia/llama-3.2-nv-rerankqa-1b-v2"


@pytest.fixture
def rerank(service, way):
    """Rerank nodes: `rerank(nodes, query, **settings)`."""
    return lambda found, query="q", **settings: asking.rerank(reranker_of(service, **settings), found, way, query)


@pytest.fixture
def scores(tmp_path):
    with DiskCache(tmp_path / "scores.sqlite") as cache:
        yield cache


def ask(subject, *numbers):
    return subject.postprocess_nodes(nodes(*numbers), query_str="q")


def test_the_best_nodes_come_first(rerank):
    assert ids(rerank(nodes(1, 3, 2))) == ["n3", "n2", "n1"]


@pytest.mark.parametrize(("top_n", "count"), [(0, 0), (1, 1), (3, 3), (9, 3), (None, 3)])
def test_top_n_says_how_many_come_back(rerank, service, top_n, count):
    assert len(rerank(nodes(1, 2, 3), top_n=top_n)) == count
    assert len(service.requests) == min(count, 1)


def test_no_nodes_ask_nothing(rerank, service):
    assert rerank([]) == []
    assert service.requests == []


def test_batches_give_the_order_of_one_big_batch(rerank):
    assert ids(rerank(nodes(5, 1, 9, 3, 7, 2, 8, 6, 4), max_batch_size=2, top_n=3)) == ["n9", "n8", "n7"]


def test_ties_keep_the_order_of_the_input(rerank):
    found = [NodeWithScore(node=TextNode(id_=id_, text="1"), score=0.5) for id_ in "abcd"]
    assert ids(rerank(found, max_batch_size=3)) == ["a", "b", "c", "d"]


def test_results_are_copies_with_the_logit_as_score_and_the_first_stage_in_the_metadata(rerank):
    found = nodes(1, 3)
    before = [node.model_copy(deep=True) for node in found]
    best = rerank(found)[0]
    assert (best.score, best.metadata) == (3.0, {"first_stage_rank": 2, "first_stage_score": 0.5})
    assert best.node.get_content(MetadataMode.LLM) == "3"
    best.metadata["mine"] = True
    assert found == before


@pytest.mark.parametrize("query", [None, "", "  "])
def test_a_missing_query_is_refused_and_the_end_of_the_call_reported(rerank, recorder, query):
    with pytest.raises(ValueError, match="needs a query"):
        rerank(nodes(1), query=query)
    assert [event.class_name() for event in recorder.events] == ["ReRankStartEvent", "ReRankEndEvent"]


def test_metadata_mode_chooses_what_is_sent(rerank, service):
    found = [NodeWithScore(node=TextNode(text="1", metadata={"a": "b"}, text_template="{content}"))]
    rerank(found, metadata_mode=MetadataMode.NONE)
    assert service.bodies[0]["passages"] == [{"text": "1"}]


@pytest.mark.parametrize("top_n", [-1, True, 2.0, "3"])
def test_a_strange_top_n_is_refused_when_it_is_assigned(service, top_n):
    subject = reranker_of(service)
    with pytest.raises(ValueError, match="top_n"):
        subject.top_n = top_n


WRONG = [{"max_batch_size": 513}, {"max_batch_size": 0}, {"truncate": "START"}, {"timeout": 0}, {"topn": 4}]
WRONG += [{"score_cache": 40}, {"rate_limit": 40}]


@pytest.mark.parametrize("arguments", WRONG, ids=str)
def test_a_wrong_argument_is_refused(service, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        reranker_of(service, **arguments)


def test_an_assigned_batch_size_is_used(service):
    subject = reranker_of(service)
    subject.max_batch_size = 1
    ask(subject, 1, 2)
    assert len(service.requests) == 2


def test_your_own_nim_is_asked_for_its_model(service):
    with pytest.warns(UserWarning, match="Default model is set as: listed-model"):
        assert reranker_of(service, model=None).model == "listed-model"


def test_a_single_model_needs_no_warning(service):
    service.models = ["only-model"]
    assert reranker_of(service, model=None).model == "only-model"


def test_constructing_asks_nothing_when_the_model_is_named(service):
    reranker_of(service)
    assert service.requests == service.listings == []


def test_the_environment_is_read_when_constructing(service, monkeypatch):
    monkeypatch.setenv("NVIDIA_BASE_URL", "http://from-the-environment/v1")
    ask(reranker_of(service, base_url=None), 1)
    assert service.requests[0].url.host == "from-the-environment"


def test_truncate_none_is_not_known_to_every_rerank_service():
    with pytest.warns(UserWarning, match="truncate='NONE' is known to vLLM"):
        NVIDIARerank(model="m", base_url="http://cohere.example/v2/rerank", truncate="NONE")


async def test_a_block_closes_a_reranker():
    with serving() as running:
        async with NVIDIARerank(model="m", base_url=running.base_url) as subject:
            assert ids(await subject.apostprocess_nodes(nodes(1, 3), query_str="q")) == ["n3", "n1"]
        assert subject._client._own._session is None


def test_the_catalog_gets_the_default_model_and_the_key_of_the_environment(service, monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    ask(reranker_of(service, base_url=None, model=None), 1)
    request = service.requests[0]
    assert request.url.path.endswith(f"{DEFAULT_MODEL}/reranking")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert service.bodies[0]["model"] == DEFAULT_MODEL


def test_the_url_of_one_model_of_the_catalog_says_the_model(service):
    url = "https://ai.api.nvidia.com/v1/retrieval/nvidia/llama-nemotron-rerank-500m-v2/reranking"
    assert reranker_of(service, base_url=url, model=None, api_key=KEY).model == "nvidia/llama-nemotron-rerank-500m-v2"


def test_a_url_that_nobody_knows_needs_the_name_of_the_model(service):
    with pytest.raises(ValueError, match="name one with `model`"):
        reranker_of(service, base_url="https://ai.api.nvidia.com/v1/mine/reranking", model=None, api_key=KEY)


@pytest.mark.parametrize(
    ("arguments", "sent"), [({}, None), ({"api_key": "other", "nvidia_api_key": "given"}, "Bearer given")]
)
def test_a_key_of_the_environment_stays_off_other_hosts(service, monkeypatch, arguments, sent):
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    ask(reranker_of(service, **arguments), 1)
    assert service.requests[0].headers.get("authorization") == sent


def test_a_key_does_not_follow_to_another_address(service):
    subject = reranker_of(service, api_key=KEY)
    subject.base_url = "http://elsewhere/v1"
    ask(subject, 1)
    assert service.requests[0].url.host == "elsewhere"
    assert "authorization" not in service.requests[0].headers


def test_the_settings_and_not_the_key_are_in_every_form_of_the_object():
    subject = NVIDIARerank(base_url="http://nim/v1", model="m", top_n=7, api_key=KEY)
    pickled = pickle.dumps(subject)
    forms = [repr(subject), str(subject), str(subject.to_dict()), subject.to_json(), pickled.decode("latin-1")]
    assert not any("secret-of-the-test" in form for form in forms)
    for other in (pickle.loads(pickled), NVIDIARerank.from_dict(subject.to_dict())):
        assert (other.base_url, other.model, other.top_n) == ("http://nim/v1", "m", 7)


def test_the_class_is_one_of_llamaindex():
    assert NVIDIARerank.class_name() == "NVIDIARerank"
    assert issubclass(NVIDIARerank, BaseNodePostprocessor)


@pytest.mark.parametrize("found", [nodes(1, 2), []], ids=["some", "none"])
def test_start_and_end_are_reported_and_what_an_answer_cost(rerank, recorder, found):
    rerank(found, top_n=None, max_batch_size=1)
    names = [event.class_name() for event in recorder.events]
    assert names == ["ReRankStartEvent", *(["RerankCostEvent"] if found else []), "ReRankEndEvent"]
    costs = [event for event in recorder.events if event.class_name() == "RerankCostEvent"]
    assert [(cost.tokens, cost.requests, cost.retries, cost.cached) for cost in costs] == [(2, 2, 0, 0)] * bool(found)


def test_a_failed_call_reports_no_cost(rerank, service, recorder):
    service.answers = [httpx.Response(410)]
    with pytest.raises(RerankError):
        rerank(nodes(1))
    assert [event.class_name() for event in recorder.events] == ["ReRankStartEvent", "ReRankEndEvent"]


async def test_an_async_call_is_one_span(service):
    root, spans = get_dispatcher(), SimpleSpanHandler()
    root.add_span_handler(spans)
    await reranker_of(service).apostprocess_nodes(nodes(1), query_str="q")
    root.span_handlers.remove(spans)
    assert [span.id_.partition("-")[0] for span in spans.completed_spans] == ["NVIDIARerank._apostprocess_nodes"]


def test_callbacks_get_the_nodes(service):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    ask(reranker_of(service, callback_manager=CallbackManager([debug])), 1, 2)
    start, end = debug.get_event_pairs(CBEventType.RERANKING)[0]
    assert len(start.payload["nodes"]) == 2
    assert ids(end.payload["nodes"]) == ["n2", "n1"]


def test_the_sigmoid_gives_scores_from_zero_to_one_in_the_same_order(rerank):
    found = rerank(nodes(-20, 0, 20), score_transform="sigmoid", sigmoid_scale=10)
    assert [round(node.score, 3) for node in found] == [0.881, 0.5, 0.119]


def test_min_score_leaves_out_what_is_lower_after_the_transform(rerank):
    assert ids(rerank(nodes(-1, 0, 1), score_transform="sigmoid", min_score=0.5)) == ["n1", "n0"]
    assert ids(rerank(nodes(-1, 0, 1), min_score=0.5)) == ["n1"]


def test_the_last_call_says_what_it_cost(service, scores):
    subject = reranker_of(service, max_batch_size=2, score_cache=scores)
    assert subject.last_call is None
    ask(subject, 1, 2, 3)
    cost = subject.last_call
    assert (cost.tokens, cost.requests, cost.retries, cost.cached) == (3, 2, 0, 0)
    assert cost.seconds > 0
    ask(subject, 1, 2, 3, 4)
    assert (subject.last_call.requests, subject.last_call.cached) == (1, 3)


def test_scores_are_kept_in_a_cache_that_copies_share(rerank, service, scores):
    first, again = (rerank(nodes(*numbers), score_cache=scores) for numbers in [(1, 3), (3, 2, 1)])
    assert copy.copy(reranker_of(service, score_cache=scores)).score_cache is scores
    assert [ids(first), ids(again)] == [["n3", "n1"], ["n3", "n2", "n1"]]
    assert [body["passages"] for body in service.bodies] == [[{"text": "1"}, {"text": "3"}], [{"text": "2"}]]


def test_a_failing_call_names_the_nodes_of_the_failing_request_also_when_a_cache_knew_some(rerank, service, scores):
    service.answers = [httpx.Response(400, text="no")]
    with pytest.raises(RerankError, match="nodes 'n1' to 'n3'") as failed:
        rerank(nodes(1, 2, 3))
    assert failed.value.node_ids == ["n1", "n2", "n3"]
    rerank(nodes(1), score_cache=scores)
    service.answers = [httpx.Response(400, text="no")]
    with pytest.raises(RerankError, match="nodes 'n2' to 'n3'"):
        rerank(nodes(2, 1, 3), score_cache=scores)


def test_cache_and_limit_go_with_a_pickle_and_stay_out_of_a_dictionary(scores):
    subject = NVIDIARerank(base_url="http://nim/v1", model="m", score_cache=scores, rate_limit=RateLimit(40))
    other = pickle.loads(pickle.dumps(subject))
    other.score_cache.close()
    assert (other.score_cache.path, other.rate_limit.requests) == (scores.path, 40)
    assert not {"score_cache", "rate_limit"} & set(subject.to_dict())


def test_a_retired_model_is_refused_by_the_catalog_only(service, monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    with pytest.raises(ModelRetired, match="2026-05-18"):
        reranker_of(service, base_url=None, model=RETIRED)
    assert reranker_of(service, base_url=None, model=RETIRED, allow_retired=True).model == RETIRED
    assert reranker_of(service, model=RETIRED).model == RETIRED
    assert service.requests == []


def test_the_models_are_those_that_a_nim_lists_or_those_of_the_catalog_that_are_not_retired(service):
    assert [model.id for model in reranker_of(service).available_models] == ["listed-model", "m"]
    models = reranker_of(service, base_url=None, model=None, api_key=KEY).available_models
    assert DEFAULT_MODEL in [model.id for model in models]
    assert all(model.status != "retired" for model in models)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_has_the_same_settings_and_works(service, duplicate):
    other = duplicate(reranker_of(service, top_n=1, api_key=KEY))
    assert ids(ask(other, 1, 2)) == ["n2"]
    assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_check_is_there(service):
    service.answers = [httpx.Response(503)]
    assert not reranker_of(service, max_retries=0).check().passed


class Fixed(BaseRetriever):
    """Returns the same nodes whatever is asked."""

    def _retrieve(self, query_bundle):
        return nodes(1, 3, 2)


async def test_it_works_in_a_query_engine(service):
    subject = reranker_of(service, top_n=2)
    engine = RetrieverQueryEngine.from_args(Fixed(), llm=MockLLM(), node_postprocessors=[subject])
    assert ids(engine.query("q").source_nodes) == ["n3", "n2"]
    assert ids((await engine.aquery("q")).source_nodes) == ["n3", "n2"]


@pytest.mark.filterwarnings("ignore:ServiceManager is deprecated")  # in the oldest workflows, by their own doing
async def test_it_works_in_a_workflow(service):
    class Reranking(Workflow):
        @step
        async def rerank(self, event: StartEvent) -> StopEvent:
            return StopEvent(result=await reranker_of(service).apostprocess_nodes(event.nodes, query_str="q"))

    assert ids(await Reranking().run(nodes=nodes(1, 2))) == ["n2", "n1"]
