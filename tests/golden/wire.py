"""A service on a socket that writes down what it receives, and the calls whose requests are recorded."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, TextNode

from nvrerank_helpers import NVIDIARerank

KEPT_HEADERS = ("accept", "authorization", "content-length", "content-type")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
VISION = "nvidia/llama-nemotron-rerank-vl-1b-v2"
KEY = "nvapi-golden-example"

Service = Callable[[], str]


class Recorder(BaseHTTPRequestHandler):
    """Answers every ranking in the order of the passages, and lists one model."""

    protocol_version = "HTTP/1.1"
    requests: list[dict[str, Any]]

    def do_GET(self) -> None:
        self._write(json.dumps({"object": "list", "data": [{"id": "m"}, {"id": VISION}]}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name: self.headers[name] for name in KEPT_HEADERS if name in self.headers}
        self.requests.append({"method": "POST", "path": self.path, "headers": headers, "body": body.decode()})
        sent = json.loads(body)
        count = len(sent.get("passages", sent.get("documents", ())))
        kind, score = ("results", "relevance_score") if "documents" in sent else ("rankings", "logit")
        self._write(json.dumps({kind: [{"index": index, score: -index} for index in range(count)]}).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _write(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def recording() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Serve on a free port; yields the address and the rankings that were asked for."""
    handler = type("Handler", (Recorder,), {"requests": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.requests
        finally:
            server.shutdown()


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


def record(name: str, address: str, requests: list[dict[str, Any]], monkeypatch: Any) -> list[dict[str, Any]]:
    """Make one of the calls and return its requests."""
    path, settings, nodes = CALLS[name]
    given = {"model": "m"} | settings
    if path is None:
        monkeypatch.setenv("NVRERANK_CATALOG_URL", address)
        monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    else:
        given["base_url"] = address + path
    requests.clear()
    with NVIDIARerank(**given) as reranker:
        reranker.postprocess_nodes(nodes, query_str="which way? 日本語")
    return list(requests)
