"""A call ends at its deadline although the service never ends its answer, whoever calls and whatever drips.

The service waits for an event that is set after the call only, so no test depends on how fast the machine is.
`benchmarks/deadlines.py` measures the seconds, with many more patterns.
"""

import asyncio
import contextlib
import socket
import threading

import httpx
import httpx2
import pytest
from connector import NVIDIARerank
from connector.errors import RerankTimeout
from llama_index.core.schema import NodeWithScore, TextNode

DEADLINE = 0.05
DRIP = 0.01  # seconds between two bytes
NODES = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in ("1", "3", "2")]
FINE = b"HTTP/1.1 200 OK\r\n"
PATTERNS = {  # what is sent at once, and what again and again
    "silent": (b"", b""),
    "headers drip": (FINE + b"X-Slow: ", b"a"),
    "body drips": (FINE + b"Content-Length: 99999\r\n\r\n", b" "),
}
CLIENTS = {
    "sync-own": {},
    "sync-httpx": {"http_client": httpx.Client},
    "sync-httpx2": {"http_client": httpx2.Client},
    "async-own": {},
    "async-httpx.Client": {"http_client": httpx.Client},
    "async-httpx": {"async_http_client": httpx.AsyncClient},
    "async-httpx2": {"async_http_client": httpx2.AsyncClient},
}


class EndlessService:
    """Begins an answer to whoever connects, and goes on with it until the end of the `with` block."""

    def __init__(self, at_once, drip):
        self.at_once, self.drip = at_once, drip
        self.over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.base_url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/reranking"  # which lists no models
        self.threads = [threading.Thread(target=self.accept)]

    def __enter__(self):
        self.threads[0].start()
        return self

    def __exit__(self, *_):
        self.over.set()
        socket.create_connection(self.listener.getsockname()).close()  # wakes `accept`
        for thread in self.threads:
            thread.join()
        self.listener.close()

    def accept(self):
        while not self.over.is_set():
            connection, _ = self.listener.accept()
            self.threads.append(threading.Thread(target=self.answer, args=(connection,)))
            self.threads[-1].start()

    def answer(self, connection):
        with connection, contextlib.suppress(OSError):  # the client hangs up
            connection.sendall(self.at_once)
            while not self.over.wait(DRIP):
                connection.sendall(self.drip)


@pytest.fixture(params=CLIENTS)
def kind(request):
    """Return whether to call async, and with which clients; the sync ones are closed when the service is gone."""
    clients = {argument: make() for argument, make in CLIENTS[request.param].items()}
    yield request.param.startswith("async"), clients
    if "http_client" in clients:
        clients["http_client"].close()


@pytest.fixture(params=PATTERNS)
def service(request):
    with EndlessService(*PATTERNS[request.param]) as endless:
        yield endless


@pytest.fixture(params=[512, 1], ids=["one", "many"])
def rerank(request, kind, service):
    """Make a call of one request or of many: `rerank(on_failure)`."""

    def reranked(on_failure):
        is_async, clients = kind
        reranker = NVIDIARerank(
            base_url=service.base_url,
            model="m",
            deadline=DEADLINE,
            on_failure=on_failure,
            max_batch_size=request.param,
            **clients,
        )

        async def call():
            async with clients.get("async_http_client") or contextlib.nullcontext():
                return await reranker.apostprocess_nodes(NODES, query_str="q")

        with reranker:
            return asyncio.run(call()) if is_async else reranker.postprocess_nodes(NODES, query_str="q")

    return reranked


def test_a_call_ends_with_a_timeout(rerank):
    with pytest.raises(RerankTimeout):
        rerank("raise")


def test_a_call_keeps_the_order(rerank):
    kept = rerank("keep_order")
    assert [item.node_id for item in kept] == [item.node_id for item in NODES]
    assert {item.metadata["rerank_failed"] for item in kept} == {"RerankTimeout"}
