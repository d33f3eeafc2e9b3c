import asyncio
import contextvars
import subprocess
import sys
from types import SimpleNamespace

import aiohttp
import httpx
import httpx2
import pytest
from asking import NIM, client_of, nodes, passages, rank, rerank, reranker_of
from connector.client import RankingClient
from connector.errors import InvalidAnswer, RerankError, RerankTimeout, ServiceUnreachable
from connector.reranker import NVIDIARerank
from connector_alias import package_name
from fake_service import FakeService
from http_fake import http, serving
from pydantic import SecretStr


@pytest.fixture(params=[httpx, httpx2], ids=["httpx", "httpx2"])
def library(request):
    return request.param


@pytest.fixture
def service(library):
    return FakeService(library)


def answer_with(service, answer):
    """Let the service give one answer to everything."""
    service.models, service.answers = answer, [answer] * 9
    return service


def test_clients_of_either_library_serve(service, way):
    assert rank(client_of(service), 1, 3, way=way).logits == [1, 3]
    assert service.requests[-1].headers["content-type"] == "application/json"


async def test_an_async_call_uses_a_sync_client_where_there_is_no_other(service):
    client = RankingClient(NIM, "m", http_client=service.client())
    assert (await client.arank("q", passages(1, 3))).logits == [1, 3]


async def test_an_async_call_prefers_the_async_client(library):
    sync, other = FakeService(library), FakeService(library)
    await RankingClient(NIM, "m", http_client=sync.client(), async_http_client=other.async_client()).arank(
        "q", passages(1)
    )
    assert (len(sync.requests), len(other.requests)) == (0, 1)


def test_a_subclass_is_a_client():
    class Subclass(httpx.Client):
        """As test clients of web frameworks are."""

    client = Subclass(transport=httpx.MockTransport(FakeService()))
    assert RankingClient(NIM, "m", http_client=client).rank("q", passages(1)).logits == [1]


class Requests:
    """Has the methods that a session of requests has."""

    def send(self, request):
        raise AssertionError

    get = post = request = prepare_request = send


WRONG = {
    "a session of requests": Requests,
    "a client of aiohttp": lambda: aiohttp.ClientSession.__new__(aiohttp.ClientSession),
    "the library": lambda: httpx,
    "the class": lambda: httpx.Client,
    "the asynchronous class": lambda: httpx.AsyncClient,
    "an address": lambda: "http://127.0.0.1",
    "a transport": httpx.HTTPTransport,
    "a number": lambda: 5,
    "a namespace": lambda: SimpleNamespace(send=print),
    "true": lambda: True,
    "an empty list": list,
}


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("name", "wanted"), [("http_client", "pass an httpx.Client"), ("async_http_client", "pass an httpx.AsyncClient")]
)
@pytest.mark.parametrize("make", WRONG.values(), ids=WRONG)
def test_what_is_no_client_is_refused(make, name, wanted):
    with pytest.raises(ValueError, match=wanted) as raised:
        NVIDIARerank(model="m", base_url="http://nim.example/v1", **{name: make()})
    assert str(raised.value).startswith(f"{name} ")
    assert "closed" not in str(raised.value)


def test_a_client_in_the_wrong_place_is_sent_to_the_right_one(service):
    with pytest.raises(ValueError, match="pass this AsyncClient as async_http_client"):
        RankingClient(NIM, "m", http_client=service.async_client())
    with pytest.raises(ValueError, match="pass this Client as http_client"):
        RankingClient(NIM, "m", async_http_client=service.client())


async def close(clients):
    clients["http_client"].close()
    await clients["async_http_client"].aclose()


@pytest.mark.parametrize("name", ["http_client", "async_http_client"])
async def test_a_closed_client_is_refused(service, name):
    clients = service.clients()
    await close(clients)
    with pytest.raises(ValueError, match=f"{name} is closed"):
        RankingClient(NIM, "m", **{name: clients[name]})


def test_a_client_that_is_closed_later_is_an_error_that_says_so(service, no_waiting, way):
    clients = service.clients()
    reranker = reranker_of(service, **clients)
    asyncio.run(close(clients))
    with pytest.raises(RerankError, match="closed") as raised:
        rerank(reranker, nodes(1, 3, 2), way)
    assert "keep it open" in raised.value.hint
    reranker.on_failure = "keep_order"
    assert [item.text for item in rerank(reranker, nodes(1, 3, 2), way)] == ["1", "3", "2"]


TWO_LOOPS = """
import asyncio, sys, LIBRARY
from llama_index.core.schema import NodeWithScore, TextNode
from PACKAGE import NVIDIARerank
client = LIBRARY.AsyncClient(trust_env=False, verify=False)
settings = {"base_url": sys.argv[1], "async_http_client": client, "on_failure": "keep_order", "max_retries": 0}
reranker = NVIDIARerank(model="m", **settings)
nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in "132"]
for _ in range(2):
    found = asyncio.run(reranker.apostprocess_nodes(nodes, query_str="q"))
    print("".join(item.text for item in found), found[0].node.metadata.get("rerank_failed"))
"""


def test_an_async_client_over_two_event_loops_ranks_or_keeps_the_order(library):
    code = TWO_LOOPS.replace("LIBRARY", library.__name__).replace("PACKAGE", package_name())
    with serving() as service:  # in a separate process, since the first loop leaves a connection open
        command = [sys.executable, "-c", code, service.base_url]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first, second = found.splitlines()
    assert first == "321 None"
    assert second in ("321 None", "132 ServiceUnreachable")


@pytest.mark.parametrize(
    "message", ["Event loop is closed", "<Lock> is bound to a different event loop", "attached to a different loop"]
)
async def test_a_client_of_another_event_loop_is_named(message):
    service = answer_with(FakeService(), RuntimeError(message))
    with pytest.raises(RerankError, match="make one for each event loop"):
        await client_of(service, max_retries=0).arank("q", passages(1))


def test_hooks_headers_and_the_timeout_of_a_call_reach_the_client(service, way):
    seen = []

    async def hook(request):
        seen.append(request.url.path)

    headers = {"x-team": "search"}
    hooks = {"http_client": [lambda request: seen.append(request.url.path)], "async_http_client": [hook]}
    made = {"http_client": service.client, "async_http_client": service.async_client}
    clients = {name: made[name](event_hooks={"request": hooks[name]}, headers=headers) for name in made}
    rank(client_of(service, timeout=7, **clients), 1, way=way)
    assert seen.count("/v1/ranking") == 1
    assert service.requests[0].headers["x-team"] == "search"
    assert service.requests[0].extensions["timeout"]["read"] == 7


@pytest.mark.parametrize(("key", "sent"), [(None, "Basic amFuZTp3b3Jk"), ("key-of-the-test", "Bearer key-of-the-test")])
def test_a_key_wins_over_the_callers_authentication_which_stays_otherwise(service, way, key, sent):
    clients = service.clients(auth=("jane", "word"), headers={"x-api": "1"} | ({"authorization": "x"} if key else {}))
    rank(client_of(service, api_key=key and SecretStr(key), **clients), 1, way=way)
    assert service.requests[0].headers["authorization"] == sent


def test_redirects_are_not_followed_whatever_the_client_does(service, way):
    answer_with(service, service.library.Response(307, headers={"location": "http://elsewhere.example/"}))
    with pytest.raises(RerankError, match=r"elsewhere\.example"):
        rank(client_of(service, **service.clients(follow_redirects=True)), 1, way=way)
    assert {request.url.host for request in service.requests + service.listings} == {"nim"}


ERRORS = {
    ServiceUnreachable: ["ConnectError", "ReadError", "ProxyError", "UnsupportedProtocol"],
    RerankTimeout: ["ReadTimeout", "ConnectTimeout", "PoolTimeout", "WriteTimeout"],
    InvalidAnswer: ["RemoteProtocolError", "DecodingError"],
    RerankError: ["LocalProtocolError", "TooManyRedirects"],
}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for kind, names in ERRORS.items() for name in names])
def test_every_error_of_the_library_becomes_one_of_ours(service, name, kind):
    answer_with(service, getattr(service.library, name)("words of the library"))
    with pytest.raises(kind):
        rank(client_of(service, max_retries=0), 1)


RAISED = [ValueError("x"), KeyError("x"), OSError(28, "No space"), RecursionError(), ExceptionGroup("g", [OSError()])]


@pytest.mark.parametrize("raised", RAISED, ids=repr)
def test_whatever_a_client_raises_is_one_of_ours(raised, way):
    with pytest.raises(RerankError):
        rank(client_of(answer_with(FakeService(), raised), max_retries=0), 1, way=way)


async def test_context_variables_reach_the_callers_client(library):
    tenant = contextvars.ContextVar("tenant", default="nobody")
    seen = []

    class Service(FakeService):
        def rank(self, request):
            seen.append(tenant.get())
            return super().rank(request)

    service = Service(library)
    only_sync, both = RankingClient(NIM, "m", http_client=service.client()), client_of(service)
    tenant.set("search")
    only_sync.rank("q", passages(1))
    await only_sync.arank("q", passages(1))
    await both.arank("q", passages(1))
    assert seen == ["search"] * 3


def test_a_fault_that_passes_is_tried_again(service, no_waiting, way):
    service.answers = [service.library.Response(503), service.library.ReadError("reset")]
    assert rank(client_of(service), 1, way=way).retries == 2


def test_closing_leaves_the_callers_client_open(service):
    http_client = service.client()
    with RankingClient(NIM, "m", http_client=http_client) as client:
        client.rank("q", passages(1))
    assert not http_client.is_closed


def test_the_connection_of_an_answer_that_is_too_large_is_closed(library):
    with serving(http(b" " * (33 * 2**20))) as service, library.Client(trust_env=False, verify=False) as mine:
        with pytest.raises(InvalidAnswer, match="larger than 32 MiB"):
            rank(client_of(service, max_retries=0, http_client=mine), 1)
        assert mine._transport._pool.connections == []
