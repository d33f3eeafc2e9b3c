"""What is remembered, warned of and closed by a reranker."""

import importlib.util
import os
import sys

import httpx
import pytest
from connector import background, transport
from connector.background import run
from connector.client import RankingClient
from connector.endpoints import default_model, endpoint, remember_model
from connector.errors import RerankError, RerankTimeout, status_error
from connector.reranker import NVIDIARerank
from fake_service import FakeService
from llama_index.core.schema import NodeWithScore, TextNode
from raw_service import http, serving

NODES = [NodeWithScore(node=TextNode(text=text)) for text in ("1", "3")]


def test_a_remembered_model_is_used_for_its_address(monkeypatch):
    monkeypatch.setattr("connector.endpoints._models", {})
    remember_model(endpoint("http://nim.example:8000/v1", None, {}), "chosen/model")
    assert default_model("http://nim.example:8000") == "chosen/model"
    assert default_model("http://nim.example:8001") == ""


def test_an_address_that_plays_the_catalog_may_end_in_v1():
    played = endpoint(None, "a/model", {"NVRERANK_CATALOG_URL": "http://127.0.0.1:5000/v1/"})
    assert played.ranking_url == "http://127.0.0.1:5000/v1/retrieval/a/model/reranking"


def test_the_status_has_the_name_that_other_clients_give_it():
    assert status_error(429, b"").status_code == status_error(429, b"").status == 429


def test_truncate_none_is_not_known_to_every_rerank_service():
    with pytest.warns(UserWarning, match="truncate='NONE' is known to vLLM"):
        NVIDIARerank(model="m", base_url="http://cohere.example/v2/rerank", truncate="NONE")


async def test_a_block_closes_a_reranker():
    with serving() as service:
        async with NVIDIARerank(model="m", base_url=f"{service.origin}/v1") as reranker:
            assert [item.text for item in await reranker.apostprocess_nodes(NODES, query_str="q")] == ["3", "1"]
        assert reranker._client._own._session is None


@pytest.fixture
def socks(monkeypatch):
    """A SOCKS proxy, as httpx speaks to one where the package for it is installed."""
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy.example:1080")
    service, clients = FakeService(), []

    def make(**arguments):
        clients.append((real(transport=httpx.MockTransport(service)), arguments))
        return clients[-1][0]

    real = httpx.Client
    monkeypatch.setattr(transport.httpx, "Client", make)
    return clients


def test_a_socks_proxy_is_spoken_to_by_httpx(socks):
    with RankingClient(endpoint("http://nim.example/v1", None, {}), "m") as client:
        assert client.rank("q", [{"text": "1"}]).logits == [1]
        assert client.rank("q", [{"text": "2"}]).logits == [2]
    assert [arguments["proxy"] for _, arguments in socks] == ["socks5://proxy.example:1080"]
    assert socks[0][0].is_closed


def test_after_a_fork_a_socks_proxy_gets_another_connection(socks, monkeypatch):
    monkeypatch.setattr(background, "_current", background.background())
    client = RankingClient(endpoint("http://nim.example/v1", None, {}), "m")
    client.rank("q", [{"text": "1"}])
    background._forget()
    client.rank("q", [{"text": "1"}])
    background._stop()
    assert len(socks) == 2


def test_a_socks_proxy_trusts_the_certificates_of_the_environment(socks, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/missing.pem")
    with pytest.raises(RerankError, match="SSL_CERT_FILE"):
        RankingClient(endpoint("https://nim.example/v1", None, {}), "m", max_retries=0).rank("q", [{"text": "1"}])


def test_after_a_fork_another_loop_serves(monkeypatch):
    monkeypatch.setattr(background, "_current", background.background())
    monkeypatch.setattr(background, "_inherited", [])
    with serving() as service:
        client = RankingClient(endpoint(f"{service.origin}/v1", None, {}), "m")
        client.rank("q", [{"text": "1"}])
        inherited = background.background()
        background._forget()
        assert client.rank("q", [{"text": "2"}]).logits == [2]
        client.close()
    assert background._inherited == [inherited]
    background._stop()
    assert background._current is None
    background._stop()  # of a process that never asked anything


def test_a_child_that_forks_before_any_call_inherits_nothing(monkeypatch):
    monkeypatch.setattr(background, "_current", None)
    monkeypatch.setattr(background, "_inherited", [])
    background._forget()
    assert background._inherited == []


def test_where_there_is_no_fork_nothing_is_registered_for_it(monkeypatch):
    monkeypatch.delattr(os, "register_at_fork", raising=False)
    name = f"{background.__package__}.without_fork"
    spec = importlib.util.spec_from_file_location(name, background.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    assert module._current is None


def test_a_thread_that_a_server_holds_by_dripping_is_told_to_end(monkeypatch):
    def drip(head, _):
        if head.startswith(b"GET "):
            return http(b"", "404 Not Found")
        return Drip()

    class Drip:
        def __iter__(self):
            yield b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"
            while True:
                yield b" "

    monkeypatch.setattr("connector.given_clients.GRACE", 0.0)
    with serving(drip) as service, httpx.Client(trust_env=False, verify=False) as mine:
        client = RankingClient(endpoint(f"{service.origin}/v1", None, {}), "m", deadline=0.1, http_client=mine)
        with pytest.raises(RerankTimeout):
            client.rank("q", [{"text": "1"}])
        hanging = background._Job.hanging
        assert any(not any(hanging.values()) or run(background.asyncio.sleep, 0.001) for _ in range(5000))
