import asyncio
import contextvars
import json
import subprocess
import sys
from types import SimpleNamespace

import aiohttp
import httpx
import httpx2
import pytest
from connector.client import RankingClient
from connector.endpoints import endpoint
from connector.errors import InvalidAnswer, RerankError, RerankTimeout, ServiceUnreachable
from connector.reranker import NVIDIARerank
from connector_alias import package_name
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import SecretStr
from raw_service import http, serving

NIM = endpoint("http://nim.example/v1", None, {})
LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
KEY = SecretStr("key-of-the-test")


def passages(*numbers):
    return [{"text": str(number)} for number in numbers]


def nodes():
    return [NodeWithScore(node=TextNode(text=text), score=0.5) for text in ("1", "3", "2")]


class Nim:
    """Answers a request of either library, and keeps it."""

    def __init__(self, library):
        self.library, self.requests = library, []

    def __call__(self, request):
        self.requests.append(request)
        if request.method == "GET":
            return self.library.Response(404)
        texts = [passage["text"] for passage in json.loads(request.content)["passages"]]
        rankings = [{"index": index, "logit": float(text)} for index, text in enumerate(texts)]
        return self.library.Response(200, json={"rankings": rankings})

    async def acall(self, request):
        return self(request)

    def client(self, **arguments):
        return self.library.Client(transport=self.library.MockTransport(self), **arguments)

    def async_client(self, **arguments):
        return self.library.AsyncClient(transport=self.library.MockTransport(self.acall), **arguments)


@LIBRARIES
def test_a_sync_client_of_either_library_serves_sync_calls(library):
    nim = Nim(library)
    assert RankingClient(NIM, "m", http_client=nim.client()).rank("q", passages(1, 3)).logits == [1, 3]
    assert nim.requests[-1].headers["content-type"] == "application/json"


@LIBRARIES
async def test_an_async_client_of_either_library_serves_async_calls(library):
    nim = Nim(library)
    client = RankingClient(NIM, "m", async_http_client=nim.async_client())
    assert (await client.arank("q", passages(1, 3))).logits == [1, 3]


@LIBRARIES
async def test_an_async_call_uses_a_sync_client_where_there_is_no_other(library):
    nim = Nim(library)
    client = RankingClient(NIM, "m", http_client=nim.client())
    assert (await client.arank("q", passages(1, 3))).logits == [1, 3]
    assert len(nim.requests) == 2  # the list of models, and the ranking


@LIBRARIES
async def test_an_async_call_prefers_the_async_client(library):
    sync, asynchronous = Nim(library), Nim(library)
    client = RankingClient(NIM, "m", http_client=sync.client(), async_http_client=asynchronous.async_client())
    await client.arank("q", passages(1))
    assert (len(sync.requests), len(asynchronous.requests)) == (0, 2)


class Subclass(httpx.Client):
    """As test clients of web frameworks are."""


def test_a_subclass_is_a_client():
    nim = Nim(httpx)
    client = Subclass(transport=httpx.MockTransport(nim))
    assert RankingClient(NIM, "m", http_client=client).rank("q", passages(1)).logits == [1]


class Requests:
    """Has the methods that a session of requests has."""

    def send(self, request):
        raise AssertionError

    def get(self, url):
        raise AssertionError

    post = request = prepare_request = get


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


@LIBRARIES
def test_a_client_in_the_wrong_place_is_sent_to_the_right_one(library):
    nim = Nim(library)
    with pytest.raises(ValueError, match="pass this AsyncClient as async_http_client"):
        RankingClient(NIM, "m", http_client=nim.async_client())
    with pytest.raises(ValueError, match="pass this Client as http_client"):
        RankingClient(NIM, "m", async_http_client=nim.client())


@LIBRARIES
def test_a_closed_client_is_refused(library):
    client, other = Nim(library).client(), Nim(library).async_client()
    client.close()
    asyncio.run(other.aclose())
    with pytest.raises(ValueError, match="http_client is closed"):
        RankingClient(NIM, "m", http_client=client)
    with pytest.raises(ValueError, match="async_http_client is closed"):
        RankingClient(NIM, "m", async_http_client=other)


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr("connector.retries.backoff", lambda _: 0.0)


def reranker_of(nim, **arguments):
    clients = {"http_client": nim.client(), "async_http_client": nim.async_client()}
    return NVIDIARerank(model="m", base_url="http://nim.example/v1", **clients, **arguments)


@LIBRARIES
def test_a_client_that_is_closed_later_is_an_error_that_says_so(library, no_waiting):
    reranker = reranker_of(Nim(library))
    reranker._http_clients[0].close()
    with pytest.raises(RerankError, match="closed") as raised:
        reranker.postprocess_nodes(nodes(), query_str="q")
    assert "keep it open" in raised.value.hint


@LIBRARIES
async def test_an_async_client_that_is_closed_later_is_an_error_that_says_so(library, no_waiting):
    reranker = reranker_of(Nim(library))
    await reranker._http_clients[1].aclose()
    with pytest.raises(RerankError, match="closed"):
        await reranker.apostprocess_nodes(nodes(), query_str="q")


@LIBRARIES
async def test_with_a_closed_client_keep_order_answers(library, no_waiting):
    reranker = reranker_of(Nim(library), on_failure="keep_order", top_n=2)
    reranker._http_clients[0].close()
    await reranker._http_clients[1].aclose()
    for kept in (
        reranker.postprocess_nodes(nodes(), query_str="q"),
        await reranker.apostprocess_nodes(nodes(), query_str="q"),
    ):
        assert [(item.text, item.node.metadata["rerank_failed"]) for item in kept] == [
            ("1", "ServiceUnreachable"),
            ("3", "ServiceUnreachable"),
        ]


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


@LIBRARIES
def test_an_async_client_over_two_event_loops_ranks_or_keeps_the_order(library):
    code = TWO_LOOPS.replace("LIBRARY", library.__name__).replace("PACKAGE", package_name())
    with serving() as service:  # in a separate process, since the first loop leaves a connection open
        command = [sys.executable, "-c", code, f"{service.origin}/v1"]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    first, second = found.splitlines()
    assert first == "321 None"
    assert second in ("321 None", "132 ServiceUnreachable")


@pytest.mark.parametrize(
    "words", ["Event loop is closed", "<Lock> is bound to a different event loop", "attached to a different loop"]
)
async def test_a_client_of_another_event_loop_is_named(words):
    async def answer(_):
        raise RuntimeError(words)

    client = RankingClient(
        NIM, "m", max_retries=0, async_http_client=httpx.AsyncClient(transport=httpx.MockTransport(answer))
    )
    with pytest.raises(RerankError, match="make one for each event loop"):
        await client.arank("q", passages(1))


@LIBRARIES
async def test_hooks_and_headers_of_the_caller_stay(library):
    seen = []

    async def hook(request):
        seen.append(request.url.path)

    nim = Nim(library)
    headers = {"x-team": "search"}
    clients = {
        "http_client": nim.client(
            event_hooks={"request": [lambda request: seen.append(request.url.path)]}, headers=headers
        ),
        "async_http_client": nim.async_client(event_hooks={"request": [hook]}, headers=headers),
    }
    client = RankingClient(NIM, "m", **clients)
    client.rank("q", passages(1))
    await client.arank("q", passages(1))
    assert seen.count("/v1/ranking") == 2
    assert {request.headers["x-team"] for request in nim.requests} == {"search"}


@LIBRARIES
async def test_without_a_key_the_callers_authentication_stays(library):
    nim = Nim(library)
    client = RankingClient(
        NIM,
        "m",
        http_client=nim.client(auth=("jane", "word")),
        async_http_client=nim.async_client(auth=("jane", "word")),
    )
    client.rank("q", passages(1))
    await client.arank("q", passages(1))
    assert {request.headers["authorization"].split()[0] for request in nim.requests} == {"Basic"}


@LIBRARIES
async def test_a_key_wins_over_the_callers_authentication(library):
    nim = Nim(library)
    arguments = {"auth": ("jane", "word"), "headers": {"authorization": "Bearer of-the-caller"}}
    client = RankingClient(
        NIM, "m", api_key=KEY, http_client=nim.client(**arguments), async_http_client=nim.async_client(**arguments)
    )
    client.rank("q", passages(1))
    await client.arank("q", passages(1))
    assert {request.headers["authorization"] for request in nim.requests} == {"Bearer key-of-the-test"}


@LIBRARIES
async def test_redirects_are_not_followed_whatever_the_client_does(library):
    def answer(request):
        seen.append(request.url.host)
        return library.Response(307, headers={"location": "http://elsewhere.example/"})

    async def aanswer(request):
        return answer(request)

    seen = []
    client = RankingClient(
        NIM,
        "m",
        http_client=library.Client(transport=library.MockTransport(answer), follow_redirects=True),
        async_http_client=library.AsyncClient(transport=library.MockTransport(aanswer), follow_redirects=True),
    )
    with pytest.raises(RerankError, match=r"elsewhere\.example"):
        client.rank("q", passages(1))
    with pytest.raises(RerankError, match=r"elsewhere\.example"):
        await client.arank("q", passages(1))
    assert set(seen) == {"nim.example"}


ERRORS = {
    "ConnectError": ServiceUnreachable,
    "ReadError": ServiceUnreachable,
    "ReadTimeout": RerankTimeout,
    "ConnectTimeout": RerankTimeout,
    "PoolTimeout": RerankTimeout,
    "WriteTimeout": RerankTimeout,
    "ProxyError": ServiceUnreachable,
    "UnsupportedProtocol": ServiceUnreachable,
    "RemoteProtocolError": InvalidAnswer,
    "LocalProtocolError": RerankError,
    "DecodingError": InvalidAnswer,
    "TooManyRedirects": RerankError,
}


@LIBRARIES
@pytest.mark.parametrize(("name", "kind"), ERRORS.items())
def test_every_error_of_the_library_becomes_one_of_ours(library, name, kind):
    def answer(_):
        raise getattr(library, name)("words of the library")

    client = RankingClient(NIM, "m", max_retries=0, http_client=library.Client(transport=library.MockTransport(answer)))
    with pytest.raises(kind):
        client.rank("q", passages(1))


@pytest.mark.parametrize(
    "raised",
    [ValueError("x"), KeyError("x"), OSError(28, "No space"), RecursionError(), ExceptionGroup("g", [OSError()])],
)
async def test_whatever_a_hook_raises_is_one_of_ours(raised):
    def hook(_):
        raise raised

    async def ahook(_):
        raise raised

    nim = Nim(httpx)
    client = RankingClient(
        NIM,
        "m",
        max_retries=0,
        http_client=nim.client(event_hooks={"request": [hook]}),
        async_http_client=nim.async_client(event_hooks={"request": [ahook]}),
    )
    with pytest.raises(RerankError):
        client.rank("q", passages(1))
    with pytest.raises(RerankError):
        await client.arank("q", passages(1))


@LIBRARIES
async def test_context_variables_reach_the_callers_client(library):
    tenant = contextvars.ContextVar("tenant", default="nobody")
    seen = []

    def hook(_):
        seen.append(tenant.get())

    async def ahook(_):
        seen.append(tenant.get())

    nim = Nim(library)
    hooks = {"http_client": nim.client(event_hooks={"request": [hook]})}
    only_sync = RankingClient(NIM, "m", **hooks)
    both = RankingClient(NIM, "m", **hooks, async_http_client=nim.async_client(event_hooks={"request": [ahook]}))
    tenant.set("search")
    only_sync.rank("q", passages(1))
    await only_sync.arank("q", passages(1))
    await both.arank("q", passages(1))
    assert set(seen) == {"search"}


@LIBRARIES
def test_a_fault_that_passes_is_tried_again(library, no_waiting):
    nim, answers = Nim(library), [library.Response(503), library.ReadError("reset")]

    def answer(request):
        found = answers.pop() if answers and request.method == "POST" else nim(request)
        if isinstance(found, Exception):
            raise found
        return found

    client = RankingClient(NIM, "m", http_client=library.Client(transport=library.MockTransport(answer)))
    assert client.rank("q", passages(1)).retries == 2


def test_closing_leaves_the_callers_client_open():
    nim = Nim(httpx)
    http_client = nim.client()
    with RankingClient(NIM, "m", http_client=http_client) as client:
        client.rank("q", passages(1))
    assert not http_client.is_closed


@LIBRARIES
def test_the_connection_of_an_answer_that_is_too_large_is_closed(library):
    with (
        serving(lambda *_: http(b" " * (33 * 2**20))) as service,
        library.Client(trust_env=False, verify=False) as mine,
    ):
        client = RankingClient(endpoint(f"{service.origin}/v1", None, {}), "m", max_retries=0, http_client=mine)
        with pytest.raises(InvalidAnswer, match="larger than 32 MiB"):
            client.rank("q", passages(1))
        assert mine._transport._pool.connections == []


@LIBRARIES
async def test_the_timeout_of_a_call_reaches_the_client(library):
    nim = Nim(library)
    client = RankingClient(NIM, "m", timeout=7, http_client=nim.client(), async_http_client=nim.async_client())
    client.rank("q", passages(1))
    await client.arank("q", passages(1))
    assert {request.extensions["timeout"]["read"] for request in nim.requests if request.method == "POST"} == {7}
