"""What to do about an error: nothing that is impossible where it happened."""

import re

import httpx
import pytest
from connector.advice import advise
from connector.client import RankingClient
from connector.endpoints import resolve_endpoint
from connector.errors import (
    CacheError,
    Forbidden,
    InvalidAnswer,
    NotFound,
    PassageTooLong,
    RequestRefused,
    RerankError,
    RerankTimeout,
    ServiceUnreachable,
    Unauthorized,
    make_status_error,
)
from connector.replies import make_transport_error
from pydantic import SecretStr

NIM = resolve_endpoint("http://nim.example/v1", None, {})
RERANK = resolve_endpoint("http://vllm.example/v1/rerank", None, {})
TEI = resolve_endpoint("http://tei.example/rerank", None, {})
CATALOG = resolve_endpoint(None, None, {})
NAMED = resolve_endpoint("https://ai.api.nvidia.com/v1/retrieval/nvidia/reranking", None, {})
PLAYED = resolve_endpoint(None, None, {"NVRERANK_CATALOG_URL": "http://127.0.0.1:5000"})

CLASSES = [RerankError, CacheError, InvalidAnswer, RerankTimeout, ServiceUnreachable]  # those without a status
STATUSES = [300, 301, 307, 400, 401, 402, 403, 404, 405, 407, 408, 410, 413, 422, 425, 429, 499]
STATUSES += [500, 501, 502, 503, 504, 520, 524]
IMPOSSIBLE = {
    "own": r"set NVIDIA_API_KEY|build\.nvidia\.com|NVIDIA's support|your account|API catalog|free tier",
    "rerank": r"GET /v1/health/ready|stand-in|set NVIDIA_API_KEY|build\.nvidia\.com|NVIDIA's support|your account",
    "catalog": r"its operator|the service's own log|/rerank\b|docker|GET /v1/health/ready|base_url with|its list",
}
PLACES = {
    "NIM": (NIM, "own"),
    "vLLM": (RERANK, "rerank"),
    "TEI": (TEI, "rerank"),
    "catalog": (CATALOG, "catalog"),
    "catalog by its address": (NAMED, "catalog"),
}


@pytest.mark.parametrize(("target", "place"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("kind", CLASSES)
def test_no_class_gives_advice_that_is_impossible(kind, target, place):
    assert not re.search(IMPOSSIBLE[place], advise(kind("What happened."), target), re.IGNORECASE)


@pytest.mark.parametrize(("target", "place"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("words", ["", "no", "model not found", "Input exceeds maximum allowed token size 512"])
def test_no_status_gives_advice_that_is_impossible(status, words, target, place):
    error = make_status_error(status, words.encode())
    assert not re.search(IMPOSSIBLE[place], advise(error, target), re.IGNORECASE)


CAUSES = [
    "Connection refused",
    "[Errno -2] Name or service not known",
    "[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate",
    "[SSL: WRONG_VERSION_NUMBER] wrong version number",
    "SSL_CERT_FILE=/missing.pem cannot be used",
    "Cannot send a request, as the client has been closed.",
    "Unknown scheme for proxy URL",
]


@pytest.mark.parametrize(("target", "place"), PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("kind", [ServiceUnreachable, InvalidAnswer])
def test_no_cause_gives_advice_that_is_impossible(kind, cause, target, place):
    impossible = IMPOSSIBLE[place].replace("|base_url with", "")
    assert not re.search(impossible, advise(kind("x"), target, cause), re.IGNORECASE)


@pytest.mark.parametrize(
    ("cause", "word"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate", "SSL_CERT_FILE"),
        ("certificate verify failed: Hostname mismatch", "certificate"),
        ("SSL_CERT_DIR=/x cannot be used: x", "unset"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "http://"),
        ("[SSL] record layer failure (_ssl.c:1006)", "http://"),
        ("Using SOCKS proxy, but the 'socksio' package is not installed", "socks"),
        ("Unknown scheme for proxy URL URL('socks://127.0.0.1')", "http:// proxy"),
        ("[Errno -2] Name or service not known", "base_url"),
        ("[Errno -3] Temporary failure in name resolution", "network"),
        ("[Errno 8] nodename nor servname provided, or not known", "base_url"),
        ("[Errno 11001] getaddrinfo failed", "base_url"),
        ("Event loop is closed", "each event loop"),
    ],
)
def test_a_cause_has_its_advice(cause, word):
    assert word in advise(ServiceUnreachable("x"), NIM, cause)


def test_a_proxy_in_between_is_named():
    assert "HTTP_PROXY (http://p)" in advise(ServiceUnreachable("x"), NIM, "refused", "HTTP_PROXY (http://p)")


@pytest.mark.parametrize("cause", ["[Errno -2] Name or service not known", "getaddrinfo failed"])
def test_where_a_proxy_is_in_between_it_is_the_proxys_name_that_is_not_known(cause):
    hint = advise(ServiceUnreachable("x"), NIM, cause, "HTTP_PROXY (http://p)")
    assert "HTTP_PROXY" in hint
    assert "base_url" not in hint


@pytest.mark.parametrize(
    ("status", "words", "target", "wanted"),
    [
        (401, "", NIM, "api_key="),
        (401, "", CATALOG, "NVIDIA_API_KEY"),
        (401, "", PLAYED, "NVIDIA_API_KEY"),
        (403, "", RERANK, "api_key="),
        (404, "Not Found", RERANK, "/rerank"),
        (404, "Not Found", NIM, "/v1/rerank"),
        (405, "Method Not Allowed", NIM, "/v1/ranking"),
        (501, "", NIM, "/rerank"),
        (404, "The model `x` does not exist.", RERANK, "model="),
        (404, "Not Found", CATALOG, "model"),
        (307, "", NIM, "base_url"),
        (407, "", NIM, "HTTPS_PROXY"),
        (400, "The plain HTTP request was sent to HTTPS port", NIM, "https://"),
        (400, "Client sent an HTTP request to an HTTPS server.", NIM, "https://"),
        (400, "input is too large to process", RERANK, "smaller nodes"),
        (429, "", NIM, "max_concurrency"),
        (429, "", CATALOG, "40 requests a minute"),
        (503, "", RERANK, "loaded its model"),
        (503, "", NIM, "/v1/health/ready"),
    ],
)
def test_a_status_has_its_advice(status, words, target, wanted):
    assert wanted in advise(make_status_error(status, words.encode()), target)


def test_a_text_that_cannot_be_cut_is_not_to_be_cut_again():
    error = make_status_error(400, b"This model's maximum context length is 512 tokens")
    assert isinstance(error, PassageTooLong)
    assert "smaller nodes" in advise(error, RERANK)


def ask(answer, target=NIM, **arguments):
    def serve(request):
        if request.method == "GET":
            return httpx.Response(404)
        if isinstance(answer, Exception):
            raise answer
        return answer

    http_client = httpx.Client(transport=httpx.MockTransport(serve))
    with pytest.raises(RerankError) as raised:
        RankingClient(target, "m", max_retries=0, http_client=http_client, **arguments).rank("q", [{"text": "1"}])
    return raised.value


@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (401, Unauthorized, "api_key="),
        (403, Forbidden, "api_key="),
        (404, NotFound, "/rerank"),
        (405, RequestRefused, "/rerank"),
    ],
)
def test_the_advice_is_in_the_text_of_the_error(status, kind, word):
    error = ask(httpx.Response(status))
    assert type(error) is kind
    assert word in str(error)
    assert word in error.summary


def test_a_long_wait_is_told_before_the_advice():
    error = ask(httpx.Response(429, headers={"retry-after": "600"}), deadline=5, api_key=SecretStr("some-key"))
    assert error.hint.startswith("Try again in ") or error.retry_after is None


def test_a_broken_answer_is_not_called_unreachable():
    assert "could not be reached" not in str(ask(httpx.RemoteProtocolError("illegal header line")))


@pytest.mark.parametrize("target", [NIM, RERANK])
def test_an_own_service_that_is_not_there_is_not_looked_for_in_the_catalog(target):
    error = make_transport_error(OSError("refused"), 1, hosted=False, dialect=target.dialect)
    assert "Is the service running" in error.hint
