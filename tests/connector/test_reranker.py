import asyncio
import copy
import pickle

import httpx
import pytest
from connector import NVIDIARerank
from connector.disk_cache import DiskCache
from connector.errors import ModelRetired, RerankError
from connector.models import DEFAULT_MODEL
from connector.rate_limit import RateLimit
from fake_service import FakeService
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.llms.mock import MockLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step

KEY = "nvapi-secret-of-the-test"


@pytest.fixture
def service():
    return FakeService()


def reranker(service, **arguments):
    given = {"base_url": "http://nim:1976/v1", "model": "m"} | arguments
    return NVIDIARerank(http_client=service.client(), async_http_client=service.async_client(), **given)


def nodes(*numbers):
    return [NodeWithScore(node=TextNode(id_=f"n{n}", text=str(n)), score=0.5) for n in numbers]


@pytest.fixture(params=["sync", "async"])
def rerank(request, service):
    def reranked(found, query="q", **arguments):
        subject = reranker(service, **arguments)
        if request.param == "sync":
            return subject.postprocess_nodes(found, query_str=query)
        return asyncio.run(subject.apostprocess_nodes(found, query_str=query))

    return reranked


class Fixed(BaseRetriever):
    """Returns the same nodes whatever is asked."""

    def __init__(self, found):
        self.found = found
        super().__init__()

    def _retrieve(self, query_bundle):
        return self.found


def ids(found):
    return [node.node_id for node in found]


def test_the_best_nodes_come_first(rerank):
    assert ids(rerank(nodes(1, 3, 2))) == ["n3", "n2", "n1"]


@pytest.mark.parametrize(("top_n", "count"), [(0, 0), (1, 1), (3, 3), (9, 3), (None, 3)])
def test_top_n_says_how_many_come_back(rerank, top_n, count):
    assert len(rerank(nodes(1, 2, 3), top_n=top_n)) == count


def test_top_n_of_zero_asks_nothing(rerank, service):
    rerank(nodes(1, 2), top_n=0)
    assert service.requests == []


def test_no_nodes_ask_nothing(rerank, service):
    assert rerank([]) == []
    assert service.requests == []


def test_batches_give_the_order_of_one_big_batch(rerank):
    numbers = [5, 1, 9, 3, 7, 2, 8, 6, 4]
    assert ids(rerank(nodes(*numbers), max_batch_size=2, top_n=3)) == ["n9", "n8", "n7"]


def test_ties_keep_the_order_of_the_input(rerank):
    found = [NodeWithScore(node=TextNode(id_=id_, text="1"), score=0.5) for id_ in "abcd"]
    assert ids(rerank(found, max_batch_size=3)) == ["a", "b", "c", "d"]


def test_the_score_is_the_logit_and_the_first_stage_stays_in_the_metadata(rerank):
    best = rerank(nodes(1, 3))[0]
    assert (best.score, best.metadata) == (3.0, {"first_stage_rank": 2, "first_stage_score": 0.5})
    assert best.node.get_content(MetadataMode.LLM) == "3"


def test_what_was_passed_in_stays_as_it_was(rerank):
    found = nodes(1, 2)
    before = [node.model_copy(deep=True) for node in found]
    rerank(found)[0].metadata["mine"] = True
    assert found == before


@pytest.mark.parametrize("query", [None, "", "  "])
def test_a_missing_query_is_refused(rerank, query):
    with pytest.raises(ValueError, match="needs a query"):
        rerank(nodes(1), query=query)


def test_metadata_mode_chooses_what_is_sent(rerank, service):
    found = [NodeWithScore(node=TextNode(text="1", metadata={"a": "b"}, text_template="{content}"))]
    rerank(found, metadata_mode=MetadataMode.NONE)
    assert service.bodies[0]["passages"] == [{"text": "1"}]


@pytest.mark.parametrize("top_n", [-1, True, 2.0, "3"])
def test_a_strange_top_n_is_refused_when_it_is_assigned(service, top_n):
    subject = reranker(service)
    with pytest.raises(ValueError, match="top_n"):
        subject.top_n = top_n


@pytest.mark.parametrize(
    "arguments", [{"max_batch_size": 513}, {"max_batch_size": 0}, {"truncate": "START"}, {"timeout": 0}, {"topn": 4}]
)
def test_a_wrong_argument_is_refused(service, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        reranker(service, **arguments)


def test_an_assigned_batch_size_is_used(service):
    subject = reranker(service)
    subject.max_batch_size = 1
    subject.postprocess_nodes(nodes(1, 2), query_str="q")
    assert len(service.requests) == 2


def test_your_own_nim_is_asked_for_its_model(service):
    with pytest.warns(UserWarning, match="Default model is set as: listed-model"):
        assert reranker(service, model=None).model == "listed-model"


def test_a_single_model_needs_no_warning(service):
    service.models = ["only-model"]
    assert reranker(service, model=None).model == "only-model"


def test_constructing_asks_nothing_when_the_model_is_named(service):
    reranker(service)
    assert service.requests == []


def test_the_environment_is_read_when_constructing(service, monkeypatch):
    monkeypatch.setenv("NVIDIA_BASE_URL", "http://from-the-environment/v1")
    subject = reranker(service, base_url=None)
    subject.postprocess_nodes(nodes(1), query_str="q")
    assert service.requests[0].url.host == "from-the-environment"


def test_the_catalog_needs_a_key(service):
    with pytest.raises(ValueError, match="NVIDIA_API_KEY"):
        reranker(service, base_url=None, model=None)


def test_the_catalog_gets_the_default_model_and_the_key_of_the_environment(service, monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    reranker(service, base_url=None, model=None).postprocess_nodes(nodes(1), query_str="q")
    request = service.requests[0]
    assert request.url.path.endswith(f"{DEFAULT_MODEL}/reranking")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert service.bodies[0]["model"] == DEFAULT_MODEL


def test_the_url_of_one_model_of_the_catalog_tells_the_model(service):
    url = "https://ai.api.nvidia.com/v1/retrieval/nvidia/llama-nemotron-rerank-500m-v2/reranking"
    assert reranker(service, base_url=url, model=None, api_key=KEY).model == "nvidia/llama-nemotron-rerank-500m-v2"


def test_a_url_that_nobody_knows_needs_the_name_of_the_model(service):
    with pytest.raises(ValueError, match="name one with `model`"):
        reranker(service, base_url="https://ai.api.nvidia.com/v1/mine/reranking", model=None, api_key=KEY)


def test_a_key_of_the_environment_stays_off_other_hosts(service, monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    reranker(service).postprocess_nodes(nodes(1), query_str="q")
    assert "authorization" not in service.requests[0].headers


def test_a_key_that_was_given_goes_to_the_host_it_was_given_for(service):
    reranker(service, api_key="other", nvidia_api_key=KEY).postprocess_nodes(nodes(1), query_str="q")
    assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_key_does_not_follow_to_another_address(service):
    subject = reranker(service, api_key=KEY)
    subject.base_url = "http://elsewhere/v1"
    subject.postprocess_nodes(nodes(1), query_str="q")
    assert service.requests[0].url.host == "elsewhere"
    assert "authorization" not in service.requests[0].headers


def test_a_key_is_in_no_form_of_the_object():
    subject = NVIDIARerank(base_url="http://nim/v1", model="m", api_key=KEY)
    forms = [repr(subject), str(subject), str(subject.to_dict()), subject.to_json()]
    assert not any("secret-of-the-test" in form for form in forms)


def test_the_class_name_is_that_of_llamaindex():
    assert NVIDIARerank.class_name() == "NVIDIARerank"
    assert issubclass(NVIDIARerank, BaseNodePostprocessor)


class Recorder(BaseEventHandler):
    """Keeps the names of the reranking events."""

    names: list[str]

    def handle(self, event, **_):
        if event.class_name().startswith("ReRank"):
            self.names.append(event.class_name())


@pytest.fixture
def recorder():
    handler, dispatcher = Recorder(names=[]), get_dispatcher()
    dispatcher.add_event_handler(handler)
    yield handler
    dispatcher.event_handlers.remove(handler)


@pytest.mark.parametrize("found", [nodes(1, 2), []], ids=["some", "none"])
def test_start_and_end_are_reported(rerank, recorder, found):
    rerank(found, top_n=None)
    assert recorder.names == ["ReRankStartEvent", "ReRankEndEvent"]


def test_the_end_of_a_failing_call_is_reported(rerank, recorder):
    with pytest.raises(ValueError, match="query"):
        rerank(nodes(1), query="")
    assert recorder.names == ["ReRankStartEvent", "ReRankEndEvent"]


def test_callbacks_get_the_nodes(service):
    debug = LlamaDebugHandler(print_trace_on_end=False)
    subject = reranker(service, callback_manager=CallbackManager([debug]))
    subject.postprocess_nodes(nodes(1, 2), query_str="q")
    start, end = debug.get_event_pairs(CBEventType.RERANKING)[0]
    assert len(start.payload["nodes"]) == 2
    assert ids(end.payload["nodes"]) == ["n2", "n1"]


def test_the_settings_survive_a_dictionary():
    copy = NVIDIARerank.from_dict(NVIDIARerank(base_url="http://nim/v1", model="m", top_n=7).to_dict())
    assert (copy.base_url, copy.model, copy.top_n) == ("http://nim/v1", "m", 7)


def test_pickling_keeps_the_settings_and_not_the_key():
    pickled = pickle.dumps(NVIDIARerank(base_url="http://nim/v1", model="m", top_n=7, api_key=KEY))
    assert KEY.encode() not in pickled
    assert pickle.loads(pickled).top_n == 7


def test_the_sigmoid_gives_scores_from_zero_to_one_in_the_same_order(rerank):
    found = rerank(nodes(-20, 0, 20), score_transform="sigmoid", sigmoid_scale=10)
    assert [round(node.score, 3) for node in found] == [0.881, 0.5, 0.119]


def test_min_score_leaves_out_what_is_lower_after_the_transform(rerank):
    assert ids(rerank(nodes(-1, 0, 1), score_transform="sigmoid", min_score=0.5)) == ["n1", "n0"]
    assert ids(rerank(nodes(-1, 0, 1), min_score=0.5)) == ["n1"]


def test_the_last_call_tells_what_it_cost(service):
    subject = reranker(service, max_batch_size=2)
    assert subject.last_call is None
    subject.postprocess_nodes(nodes(1, 2, 3), query_str="q")
    cost = subject.last_call
    assert (cost.tokens, cost.requests, cost.retries) == (3, 2, 0)
    assert cost.seconds > 0


def test_scores_are_kept_in_a_cache_that_copies_share(rerank, service, tmp_path):
    with DiskCache(tmp_path / "scores.sqlite") as scores:
        first = rerank(nodes(1, 3), score_cache=scores)
        again = rerank(nodes(3, 2, 1), score_cache=scores)
        assert copy.copy(reranker(service, score_cache=scores)).score_cache is scores
    assert [ids(first), ids(again)] == [["n3", "n1"], ["n3", "n2", "n1"]]
    assert [body["passages"] for body in service.bodies] == [[{"text": "1"}, {"text": "3"}], [{"text": "2"}]]


def test_the_last_call_tells_how_many_scores_were_cached(service, tmp_path):
    with DiskCache(tmp_path / "scores.sqlite") as scores:
        subject = reranker(service, score_cache=scores)
        subject.postprocess_nodes(nodes(1, 2), query_str="q")
        subject.postprocess_nodes(nodes(1, 2, 3), query_str="q")
        assert (subject.last_call.cached, subject.last_call.requests, scores.hit_rate) == (2, 1, 0.4)


def test_a_failing_call_names_the_nodes_also_when_a_cache_knew_some(rerank, service, tmp_path):
    with DiskCache(tmp_path / "scores.sqlite") as scores:
        rerank(nodes(1), score_cache=scores)
        service.answers = [httpx.Response(400, text="no")]
        with pytest.raises(RerankError, match="nodes 'n2' to 'n3'"):
            rerank(nodes(2, 1, 3), score_cache=scores)


@pytest.mark.parametrize("argument", ["score_cache", "rate_limit"])
def test_what_is_no_cache_or_no_limit_is_refused(service, argument):
    with pytest.raises(ValueError, match=argument):
        reranker(service, **{argument: 40})


def test_cache_and_limit_go_with_a_pickle_and_stay_out_of_a_dictionary(tmp_path):
    with DiskCache(tmp_path / "scores.sqlite") as scores:
        subject = NVIDIARerank(base_url="http://nim/v1", model="m", score_cache=scores, rate_limit=RateLimit(40))
        unpickled = pickle.loads(pickle.dumps(subject))
        unpickled.score_cache.close()
    assert (unpickled.score_cache.path, unpickled.rate_limit.requests) == (scores.path, 40)
    assert not {"score_cache", "rate_limit"} & set(subject.to_dict())


def test_a_failing_call_names_the_nodes_of_the_failing_request(rerank, service):
    service.answers = [httpx.Response(400, text="no")]
    with pytest.raises(RerankError, match="nodes 'n1' to 'n3'") as failed:
        rerank(nodes(1, 2, 3))
    assert failed.value.node_ids == ["n1", "n2", "n3"]


def test_a_retired_model_is_refused_before_anything_is_sent(service, monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    retired = {"base_url": None, "model": "nvidia/llama-3.2-nv-rerankqa-1b-v2"}
    with pytest.raises(ModelRetired, match="2026-05-18"):
        reranker(service, **retired)
    assert reranker(service, allow_retired=True, **retired).model == retired["model"]
    assert service.requests == []


def test_your_own_nim_may_serve_a_model_that_the_catalog_retired(service):
    assert reranker(service, model="nvidia/llama-3.2-nv-rerankqa-1b-v2").model.endswith("1b-v2")


def test_the_models_of_your_own_nim_are_those_that_it_lists(service):
    assert [model.id for model in reranker(service).available_models] == ["listed-model", "m"]


def test_the_models_of_the_catalog_are_those_that_are_not_retired(service):
    models = reranker(service, base_url=None, model=None, api_key=KEY).available_models
    assert DEFAULT_MODEL in [model.id for model in models]
    assert all(model.status != "retired" for model in models)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_has_the_same_settings_and_works(service, duplicate):
    other = duplicate(reranker(service, top_n=1, api_key=KEY))
    assert ids(other.postprocess_nodes(nodes(1, 2), query_str="q")) == ["n2"]
    assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_check_is_there(service):
    service.answers = [httpx.Response(503)]
    assert not reranker(service, max_retries=0).check().passed


def test_it_works_in_a_query_engine(service):
    engine = RetrieverQueryEngine.from_args(
        Fixed(nodes(1, 3, 2)), llm=MockLLM(), node_postprocessors=[reranker(service, top_n=2)]
    )
    assert ids(engine.query("q").source_nodes) == ["n3", "n2"]


async def test_it_works_in_a_query_engine_async(service):
    engine = RetrieverQueryEngine.from_args(
        Fixed(nodes(1, 3, 2)), llm=MockLLM(), node_postprocessors=[reranker(service, top_n=2)]
    )
    assert ids((await engine.aquery("q")).source_nodes) == ["n3", "n2"]


@pytest.mark.filterwarnings("ignore:ServiceManager is deprecated")  # of itself, in the oldest workflows
async def test_it_works_in_a_workflow(service):
    class Reranking(Workflow):
        @step
        async def rerank(self, event: StartEvent) -> StopEvent:
            return StopEvent(result=await reranker(service).apostprocess_nodes(event.nodes, query_str="q"))

    assert ids(await Reranking().run(nodes=nodes(1, 2))) == ["n2", "n1"]
