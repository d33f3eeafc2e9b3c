"""The calls whose requests are recorded, and the service that receives them."""

from contextlib import AbstractContextManager
from typing import Any

from http_fake import HttpFake, Received, reply, serving
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, TextNode

from nvrerank_helpers import NVIDIARerank

KEPT_HEADERS = ("accept", "authorization", "content-length", "content-type")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
VISION = "nvidia/llama-nemotron-rerank-vl-1b-v2"
KEY = "nvapi-golden-example"


def _rank(request: Received) -> bytes:
    """Answer in the order of the passages."""
    sent = request.json
    count = len(sent.get("passages", sent.get("documents", ())))
    kind, score = ("results", "relevance_score") if "documents" in sent else ("rankings", "logit")
    return reply({kind: [{"index": index, score: -index} for index in range(count)]})


def recording() -> AbstractContextManager[HttpFake]:
    """Serve on a free port, and list two models."""
    return serving(_rank, models=["m", VISION])


def _nodes(*texts: str, **metadata: Any) -> list[NodeWithScore]:
    return [NodeWithScore(node=TextNode(id_=text[:9], text=text, metadata=metadata), score=0.5) for text in texts]


TEXTS = _nodes("two roads diverged", "and sorry I could not travel both", "Größe 10 µm: “schön” 日本語 🙂\n\ttab")
PICTURES = [
    *_nodes("a caption", image=f"data:image/png;base64,{PIXEL}"),
    NodeWithScore(node=ImageNode(id_="i", image=PIXEL)),
]

# Name to the path behind the address (None: the catalog that the service plays), settings, and nodes.
CALLS: dict[str, tuple[str | None, dict[str, Any], list[NodeWithScore]]] = {
    "texts": ("/v1", {}, TEXTS),
    "address-without-v1": ("", {}, TEXTS),
    "address-with-ranking": ("/v1/ranking/", {}, TEXTS),
    "truncate-none": ("/v1", {"truncate": "NONE"}, TEXTS),
    "truncate-unset": ("/v1", {"truncate": None}, TEXTS),
    "key-given": ("/v1", {"api_key": KEY}, TEXTS),
    "batches": ("/v1", {"max_batch_size": 2, "max_concurrency": 1}, TEXTS),
    "metadata": ("/v1", {}, _nodes("two roads", title="The Road", year=1915)),
    "metadata-left-out": ("/v1", {"metadata_mode": MetadataMode.NONE}, _nodes("two roads", title="The Road")),
    "metadata-for-the-llm": ("/v1", {"metadata_mode": MetadataMode.LLM}, _nodes("two roads", title="The Road")),
    "images": ("/v1", {"model": VISION}, PICTURES),
    "whole-reranking-url": ("/v1/retrieval/nvidia/mine/reranking", {}, TEXTS),
    "rerank-url": ("/v1/rerank", {"truncate": None}, TEXTS),
    "catalog": (None, {"model": VISION}, TEXTS),
    "catalog-by-the-naming-rule": (None, {"model": "nvidia/llama-3.2-nemoretriever-500m-rerank-v2"}, TEXTS),
}


def record(name: str, service: HttpFake, monkeypatch: Any) -> list[dict[str, Any]]:
    """Make one of the calls and return its requests."""
    path, settings, nodes = CALLS[name]
    given = {"model": "m"} | settings
    if path is None:
        monkeypatch.setenv("NVRERANK_CATALOG_URL", service.origin)
        monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    else:
        given["base_url"] = service.origin + path
    with NVIDIARerank(**given) as reranker:
        reranker.postprocess_nodes(nodes, query_str="which way? 日本語")
    return [_describe(request) for request in service.rankings]


def _describe(request: Received) -> dict[str, Any]:
    headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
    return {"method": "POST", "path": request.path, "headers": headers, "body": request.body.decode()}
