import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
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


def of_reranking(tracing):
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


def test_a_reranking_tells_what_it_cost():
    with Tracing() as tracing:
        reranker(max_batch_size=20).postprocess_nodes(NODES, query_str=QUERY)
    attributes = of_reranking(tracing).attributes
    assert (attributes["rerank.requests"], attributes["llm.token_count.total"]) == (3, 3 * 77)


async def test_an_async_reranking_tells_what_it_cost():
    with Tracing() as tracing:
        await reranker().apostprocess_nodes(NODES, query_str=QUERY)
    assert of_reranking(tracing).attributes["llm.token_count.prompt"] == 77


def test_a_reranking_tells_what_came_from_its_cache():
    asked = reranker(score_cache=MemoryCache())
    asked.postprocess_nodes(NODES[:7], query_str=QUERY)
    with Tracing() as tracing:
        asked.postprocess_nodes(NODES[:9], query_str=QUERY)
    assert of_reranking(tracing).attributes["rerank.cached"] == 7


def counted(request):
    rankings = ranked(request).json()["rankings"]
    return httpx.Response(200, json={"rankings": rankings, "usage": {"total_tokens": len(rankings)}})


async def test_calls_at_once_on_one_reranker_each_tell_their_own_cost():
    asked = reranker(counted)
    with Tracing() as tracing:
        await asyncio.gather(*(asked.apostprocess_nodes(NODES[:n], query_str=QUERY) for n in (5, 9, 2)))
    tokens = [span.attributes["llm.token_count.total"] for span in tracing.spans]
    inputs = [sum("input_documents" in name and name.endswith(".id") for name in s.attributes) for s in tracing.spans]
    assert sorted(tokens) == [2, 5, 9]
    assert tokens == inputs


def test_a_kept_order_is_seen_as_a_failure():
    with Tracing() as tracing:
        reranker(broken, on_failure="keep_order").postprocess_nodes(NODES, query_str=QUERY)
    span = of_reranking(tracing)
    assert (span.status.status_code.name, span.status.description) == ("ERROR", "ServerError")
    assert [event.name for event in span.events] == ["rerank_failed"]
    assert tracing.table()["status"].tolist() == ["ServerError"]


def test_our_events_leave_no_warnings_of_the_instrumentation(caplog):
    with Tracing():
        reranker().postprocess_nodes(NODES, query_str=QUERY)
        reranker(broken, on_failure="keep_order").postprocess_nodes(NODES, query_str=QUERY)
    assert not [record for record in caplog.records if record.name.startswith("openinference")]


def test_a_raised_failure_is_seen_by_its_name():
    with Tracing() as tracing, pytest.raises(ServerError):
        reranker(broken).postprocess_nodes(NODES, query_str=QUERY)
    assert of_reranking(tracing).status.description == "ServerError"


def fail_and_succeed():
    engine().query(QUERY)
    engine(answer=broken, on_failure="keep_order").query(QUERY)
    with pytest.raises(ServerError):
        engine(answer=broken).query(QUERY)


def test_without_texts_no_span_holds_a_query_a_passage_or_a_key():
    with Tracing() as tracing:
        fail_and_succeed()
        with pytest.raises(ValueError, match="Ariadne"), tracing.step("search"):
            raise ValueError(QUERY)
    told = as_text(tracing)
    assert [secret for secret in SECRETS if secret in told] == []
    assert all(word in told for word in ("node-59", "a-model", "ValueError"))


def test_without_texts_the_words_of_a_status_are_left_out():
    with Tracing() as tracing, tracing.step("search") as span:
        span.set_status(Status(StatusCode.ERROR, QUERY))
    assert (tracing.spans[0].status.status_code, tracing.spans[0].status.description) == (StatusCode.ERROR, None)


def test_with_texts_spans_hold_what_was_asked_and_never_the_key():
    with Tracing(texts=True) as tracing:
        fail_and_succeed()
    told = as_text(tracing)
    assert [secret in told for secret in SECRETS] == [True, True, True, True, False]


def test_steps_of_ones_own_hold_what_happens_in_them():
    with Tracing() as tracing, tracing.step("search"):
        reranker().postprocess_nodes(Store().retrieve(QUERY), query_str=QUERY)
    assert tracing.table().index.tolist() == ["search", "· Store", "· NVIDIARerank"]


def test_opening_another_one_closes_the_first():
    first = Tracing()
    with Tracing() as second:
        reranker().postprocess_nodes(NODES, query_str=QUERY)
    assert (len(first.spans), len(second.spans)) == (0, 1)


def test_closing_ends_it_and_leaves_the_processs_own_provider_alone():
    provider = trace.get_tracer_provider()
    tracing = Tracing()
    tracing.close()
    tracing.close()
    reranker().postprocess_nodes(NODES, query_str=QUERY)
    assert tracing.spans == []
    assert trace.get_tracer_provider() is provider


def test_a_set_up_of_the_readers_own_is_not_taken_over():
    own = LlamaIndexInstrumentor()
    own.instrument()
    try:
        with pytest.raises(RuntimeError, match="traced already"):
            Tracing()
        assert own.is_instrumented_by_opentelemetry
    finally:
        own.uninstrument()


def test_the_environments_sampler_is_obeyed(monkeypatch):
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
    """A collector on this machine: its address, and what it got."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, body, ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", got
        server.shutdown()
        thread.join()


def names(got):
    return [span.name for *_, r in got for of in r.resource_spans for scope in of.scope_spans for span in scope.spans]


@pytest.mark.parametrize("ending", ["", "/"])
def test_spans_go_to_the_collector_that_is_given(collector, ending):
    address, got = collector
    with Tracing(endpoint=address + ending):
        reranker().postprocess_nodes(NODES, query_str=QUERY)
    assert [path for path, *_ in got] == ["/v1/traces"]
    assert names(got) == ["NVIDIARerank._postprocess_nodes"]


def test_spans_go_to_the_collector_of_the_environment(collector, monkeypatch):
    address, got = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    with Tracing():
        reranker().postprocess_nodes(NODES, query_str=QUERY)
    assert names(got) == ["NVIDIARerank._postprocess_nodes"]


def test_nothing_secret_reaches_the_collector(collector):
    address, got = collector
    with Tracing(endpoint=address):
        fail_and_succeed()
    sent = b"".join(body for _, body, _ in got)
    assert [secret for secret in SECRETS if secret.encode() in sent] == []
    assert b"ServerError" in sent
