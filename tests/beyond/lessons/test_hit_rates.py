import json

import httpx
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, TextNode

from nvrerank_helpers.connector import NVIDIARerank
from nvrerank_helpers.lessons.outages import measure_hit_rates


class Store(BaseRetriever):
    def _retrieve(self, _):
        return [NodeWithScore(node=TextNode(text=text), score=1.0) for text in ("one", "two")]


def answer(request):
    rankings = [{"index": n, "logit": 0.0} for n in range(len(json.loads(request.content)["passages"]))]
    return httpx.Response(200, json={"rankings": rankings})


def reranker(**settings):
    client = httpx.Client(transport=httpx.MockTransport(answer))
    return NVIDIARerank("a-model", base_url="http://127.0.0.1:9/v1", http_client=client, **settings)


def test_a_cache_helps_where_queries_come_again_and_it_has_room():
    table = measure_hit_rates(Store(), reranker, {"again": ["a", "b", "a", "b"], "once": ["a", "b", "c", "d"]}, [2, 4])
    assert table.to_dict() == {"again": {2: 0, 4: 0.5}, "once": {2: 0, 4: 0}}
