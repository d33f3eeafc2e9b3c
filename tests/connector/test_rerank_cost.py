import httpx
import pytest
from connector.errors import RerankError
from connector.events import RerankCostEvent
from connector.reranker import NVIDIARerank
from fake_service import FakeService
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.schema import NodeWithScore, TextNode

NODES = [NodeWithScore(node=TextNode(text=str(number)), score=1.0) for number in range(5)]


class Heard(BaseEventHandler):
    costs: list

    def handle(self, event, **_):
        if isinstance(event, RerankCostEvent):
            self.costs.append(event)


@pytest.fixture
def costs():
    root, handler = get_dispatcher(), Heard(costs=[])
    root.add_event_handler(handler)
    yield handler.costs
    root.event_handlers.remove(handler)


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def reranker(service):
    clients = {"http_client": service.client(), "async_http_client": service.async_client()}
    return NVIDIARerank("m", base_url="http://127.0.0.1:9/v1", max_batch_size=2, max_retries=0, **clients)


def test_an_answered_call_tells_its_cost(reranker, costs):
    reranker.postprocess_nodes(NODES, query_str="q")
    assert [(cost.tokens, cost.requests, cost.retries, cost.cached) for cost in costs] == [(5, 3, 0, 0)]


def test_a_failed_call_tells_no_cost(reranker, service, costs):
    service.answers = [httpx.Response(410)] * 3
    with pytest.raises(RerankError):
        reranker.postprocess_nodes(NODES, query_str="q")
    assert costs == []


async def test_an_async_call_is_a_span_of_its_own(reranker):
    root, spans = get_dispatcher(), SimpleSpanHandler()
    root.add_span_handler(spans)
    await reranker.apostprocess_nodes(NODES, query_str="q")
    root.span_handlers.remove(spans)
    assert [span.id_.partition("-")[0] for span in spans.completed_spans] == ["NVIDIARerank._apostprocess_nodes"]
