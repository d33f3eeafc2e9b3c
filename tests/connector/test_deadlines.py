"""A call ends at its deadline although the service never ends its answer, whoever calls and whatever drips.

The service waits for an event that is set after the call only, so no test depends on how fast the machine is.
`benchmarks/deadlines.py` measures the seconds, with many more patterns.
"""

import asyncio
import contextlib

import httpx
import httpx2
import pytest
from asking import ids, nodes
from connector import NVIDIARerank
from connector.errors import RerankTimeout
from http_fake import serving

NODES = nodes(1, 3, 2)
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


@pytest.mark.parametrize("batch_size", [512, 1], ids=["one", "many"])
@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
@pytest.mark.parametrize("kind", CLIENTS)
def test_a_call_ends_with_a_timeout_or_keeps_the_order(kind, pattern, batch_size):
    def call(on_failure):
        clients = {argument: make(trust_env=False, verify=False) for argument, make in CLIENTS[kind].items()}
        sync_clients.extend(clients[name] for name in clients if name == "http_client")
        reranker = NVIDIARerank(
            base_url=f"{service.origin}/reranking",  # which lists no models
            model="m",
            deadline=0.05,
            on_failure=on_failure,
            max_batch_size=batch_size,
            **clients,
        )

        async def acall():
            async with clients.get("async_http_client") or contextlib.nullcontext():
                return await reranker.apostprocess_nodes(NODES, query_str="q")

        with reranker:
            return (
                asyncio.run(acall()) if kind.startswith("async") else reranker.postprocess_nodes(NODES, query_str="q")
            )

    sync_clients = []
    with serving(lambda _: service.drip(*pattern)) as service:
        with pytest.raises(RerankTimeout):
            call("raise")
        kept = call("keep_order")
    for client in sync_clients:  # when the service is gone: until then their threads read from it
        client.close()
    assert ids(kept) == ids(NODES)
    assert {item.metadata["rerank_failed"] for item in kept} == {"RerankTimeout"}
