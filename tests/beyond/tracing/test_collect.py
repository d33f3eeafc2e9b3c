import asyncio
import json

import httpx
import pytest
from http_fake import HttpFake, reply
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import Status, StatusCode

from nvrerank_helpers.connector import MemoryCache, NVIDIARerank, ServerError
from nvrerank_helpers.tracing.collect import Tracing

QUERY, PASSAGE, KEY = "where is Ariadne's thread", "the labyrinth of Knossos", "nvapi-very-secret"
SECRETS = (QUERY, "Ariadne", PASSAGE, "Knossos", KEY)
NODES = [NodeWithScore(node=TextNode(id_=f"node-{n}", text=f"{PASSAGE} {n}"), score=1.0) for n in range(60)]


@pytest.fixture(autouse=True)
def no_collector(monkeypatch):
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)


class Store(BaseRetriever):
    def _retrieve(self, _):
        return NODES


def ranked(request):
    rankings = [{"index": n, "logit": -float(n)} for n in range(len(json.loads(request.content)["passages"]))]
    return httpx.Response(200, json={"rankings": rankings, "usage": {"prompt_tokens": 77, "total_tokens": 77}})


def broken(request):
    """Fail, and repeat what was sent, as a badly written service may."""
    return httpx.Response(500, json={"detail": f"cannot read {request.content.decode()}"})


def reranker(answer=ranked, **settings):
    client, twin = (kind(transport=httpx.MockTransport(answer)) for kind in (httpx.Client, httpx.AsyncClient))
    return NVIDIARerank(
        "a-model",
        api_key=KEY,
        base_url="http://127.0.0.1:9/v1",
        max_retries=0,
        http_client=client,
        async_http_client=twin,
        **settings,
    )


def engine(**settings):
    return RetrieverQueryEngine.from_args(Store(), MockLLM(), node_postprocessors=[reranker(**settings)])


def reranking_span(tracing):
    (span,) = [span for span in tracing.spans if span.name.startswith("NVIDIARerank.")]
    return span


def as_text(tracing):
    return " ".join(span.to_json() for span in tracing.spans)


def test_the_steps_of_a_query_become_a_table():
    with Tracing() as tracing:
        engine().query(QUERY)
    table = tracing.table()
    assert {"RetrieverQueryEngine", "· Store", "· NVIDIARerank", "· CompactAndRefine"} <= set(table.index)
    assert table.loc["· NVIDIARerank"].drop(["starts", "ms"]).to_dict() == {
        "trace": 1,
        "kind": "reranker",
        "tokens": 77,
        "status": "ok",
    }


def test_each_query_is_a_trace_that_begins_at_zero():
    with Tracing() as tracing:
        engine().query(QUERY)
        engine().query(QUERY)
    begins = tracing.table().loc["RetrieverQueryEngine"]
    assert (begins["trace"].tolist(), begins["starts"].tolist()) == ([1, 2], [0, 0])


def test_a_reranking_records_its_cost():
    with Tracing() as tracing:
        reranker(max_batch_size=20).postprocess_nodes(NODES, query_str=QUERY)
    attributes = reranking_span(tracing).attributes
    assert (attributes["rerank.requests"], attributes["llm.token_count.total"]) == (3, 3 * 77)


async def test_an_async_reranking_records_its_cost():
    with Tracing() as tracing:
        await reranker().apostprocess_nodes(NODES, query_str=QUERY)
    assert reranking_span(tracing).attributes["llm.token_count.prompt"] == 77


def test_a_reranking_records_what_came_from_its_cache():
    asked = reranker(score_cache=MemoryCache())
    asked.postprocess_nodes(NODES[:7], query_str=QUERY)
    with Tracing() as tracing:
        asked.postprocess_nodes(NODES[:9], query_str=QUERY)
    assert reranking_span(tracing).attributes["rerank.cached"] == 7


def counted(request):
    rankings = ranked(request).json()["rankings"]
    return httpx.Response(200, json={"rankings": rankings, "usage": {"total_tokens": len(rankings)}})


async def test_concurrent_calls_of_one_reranker_each_record_their_own_cost():
    asked = reranker(counted)
    with Tracing() as tracing:
        await asyncio.gather(*(asked.apostprocess_nodes(NODES[:n], query_str=QUERY) for n in (5, 9, 2)))
    tokens = [span.attributes["llm.token_count.total"] for span in tracing.spans]
    inputs = [sum("input_documents" in name and name.endswith(".id") for name in s.attributes) for s in tracing.spans]
    assert sorted(tokens) == [2, 5, 9]
    assert tokens == inputs


def test_a_kept_order_is_recorded_as_a_failure():
    with Tracing() as tracing:
        reranker(broken, on_failure="keep_order").postprocess_nodes(NODES, query_str=QUERY)
    span = reranking_span(tracing)
    assert (span.status.status_code.name, span.status.description) == ("ERROR", "ServerError")
    assert [event.name for event in span.events] == ["rerank_failed"]
    assert tracing.table()["status"].tolist() == ["ServerError"]


def test_our_events_cause_no_warnings_from_the_instrumentation(caplog):
    with Tracing():
        reranker().postprocess_nodes(NODES, query_str=QUERY)
        reranker(broken, on_failure="keep_order").postprocess_nodes(NODES, query_str=QUERY)
    assert not [record for record in caplog.records if record.name.startswith("openinference")]


def test_a_raised_failure_is_recorded_by_its_name():
    with Tracing() as tracing, pytest.raises(ServerError):
        reranker(broken).postprocess_nodes(NODES, query_str=QUERY)
    assert reranking_span(tracing).status.description == "ServerError"


def fail_and_succeed():
    engine().query(QUERY)
    engine(answer=broken, on_failure="keep_order").query(QUERY)
    with pytest.raises(ServerError):
        engine(answer=broken).query(QUERY)


def test_without_texts_no_span_contains_a_query_a_passage_or_a_key():
    with Tracing() as tracing:
        fail_and_succeed()
        with pytest.raises(ValueError, match="Ariadne"), tracing.step("search"):
            raise ValueError(QUERY)
    text = as_text(tracing)
    assert [secret for secret in SECRETS if secret in text] == []
    assert all(word in text for word in ("node-59", "a-model", "ValueError"))


def test_without_texts_the_message_of_a_status_is_dropped():
    with Tracing() as tracing, tracing.step("search") as span:
        span.set_status(Status(StatusCode.ERROR, QUERY))
    assert (tracing.spans[0].status.status_code, tracing.spans[0].status.description) == (StatusCode.ERROR, None)


def test_with_texts_spans_contain_the_query_but_never_the_key():
    with Tracing(texts=True) as tracing:
        fail_and_succeed()
    text = as_text(tracing)
    assert [secret in text for secret in SECRETS] == [True, True, True, True, False]


def test_a_step_contains_what_happens_in_it():
    with Tracing() as tracing, tracing.step("search"):
        reranker().postprocess_nodes(Store().retrieve(QUERY), query_str=QUERY)
    assert tracing.table().index.tolist() == ["search", "· Store", "· NVIDIARerank"]


def test_opening_another_tracing_closes_the_first():
    first = Tracing()
    with Tracing() as second:
        reranker().postprocess_nodes(NODES, query_str=QUERY)
    assert (len(first.spans), len(second.spans)) == (0, 1)


def test_closing_ends_it_and_does_not_touch_the_provider_of_the_process():
    provider = trace.get_tracer_provider()
    tracing = Tracing()
    tracing.close()
    tracing.close()
    reranker().postprocess_nodes(NODES, query_str=QUERY)
    assert tracing.spans == []
    assert trace.get_tracer_provider() is provider


def test_the_readers_own_set_up_is_not_taken_over():
    own = LlamaIndexInstrumentor()
    own.instrument()
    try:
        with pytest.raises(RuntimeError, match="traced already"):
            Tracing()
        assert own.is_instrumented_by_opentelemetry
    finally:
        own.uninstrument()


def test_the_sampler_of_the_environment_is_respected(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with Tracing() as tracing:
        reranker(broken, on_failure="keep_order").postprocess_nodes(NODES, query_str=QUERY)
    assert tracing.spans == []


def test_cleared_spans_are_forgotten():
    with Tracing() as tracing:
        reranker().postprocess_nodes(NODES, query_str=QUERY)
        tracing.clear()
    assert tracing.table().empty


@pytest.fixture
def collector():
    fake = HttpFake(reply())
    yield fake
    fake.close()


def exported(collector):
    sent = [ExportTraceServiceRequest.FromString(request.body) for request in collector.received]
    return [span.name for r in sent for of in r.resource_spans for scope in of.scope_spans for span in scope.spans]


@pytest.mark.parametrize("ending", ["", "/"])
def test_spans_go_to_the_given_collector(collector, ending):
    with Tracing(endpoint=collector.origin + ending):
        reranker().postprocess_nodes(NODES, query_str=QUERY)
    assert [request.path for request in collector.received] == ["/v1/traces"]
    assert exported(collector) == ["NVIDIARerank._postprocess_nodes"]


def test_spans_go_to_the_collector_from_the_environment(collector, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.origin)
    with Tracing():
        reranker().postprocess_nodes(NODES, query_str=QUERY)
    assert exported(collector) == ["NVIDIARerank._postprocess_nodes"]


def test_no_secret_reaches_the_collector(collector):
    with Tracing(endpoint=collector.origin):
        fail_and_succeed()
    sent = b"".join(request.body for request in collector.received)
    assert [secret for secret in SECRETS if secret.encode() in sent] == []
    assert b"ServerError" in sent
