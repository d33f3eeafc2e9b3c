import asyncio
import threading
import traceback

import httpx
import pytest
from asking import CATALOG, KEY, NIM, client_of, passages, rank
from connector.client import RankingClient
from connector.endpoints import resolve_endpoint
from connector.errors import (
    InvalidAnswer,
    RateLimited,
    RequestRefused,
    RerankError,
    RerankTimeout,
    ServerError,
    ServiceUnreachable,
)
from connector.rate_limit import RateLimit
from connector.replies import make_transport_error
from connector_alias import package_name
from pydantic import SecretStr


@pytest.fixture(autouse=True)
def no_waiting(no_waiting):
    """No test here sleeps between two tries."""


@pytest.fixture
def ask(service, way):
    """Rank: `ask(numbers, **arguments of the client)`."""

    def ranked(numbers, truncate="END", **arguments):
        return rank(client_of(service, **arguments), *numbers, way=way, truncate=truncate)

    return ranked


def test_logits_come_back_in_the_order_of_the_passages(ask, service):
    assert ask([1, 3, 2], truncate="NONE").logits == [1, 3, 2]
    assert service.bodies[0]["truncate"] == "NONE"
    assert "authorization" not in service.requests[0].headers


def test_passages_are_sent_in_batches_and_joined(ask, service):
    result = ask(range(10), max_batch_size=4)
    assert result.logits == list(range(10))
    assert sorted(len(body["passages"]) for body in service.bodies) == [2, 4, 4]
    assert (result.requests, result.tokens, result.retries) == (3, 10, 0)


def test_no_passages_send_nothing(ask, service):
    assert ask([]).logits == []
    assert service.requests == []


def test_faults_that_pass_are_tried_again(ask, service):
    service.answers = [httpx.Response(503), httpx.ConnectError("refused"), httpx.ReadError("reset")]
    assert ask([1, 2]).retries == 3


def test_a_refusal_is_not_tried_again_and_keeps_the_request_id(ask, service):
    service.answers = [httpx.Response(403, json={"detail": "because"}, headers={"nvcf-reqid": "r-17"})]
    with pytest.raises(RerankError, match=r"because(.|\n)*request id r-17"):
        ask([1])
    assert len(service.requests) == 1


def test_after_the_last_try_the_error_of_the_service_is_raised(ask, service):
    service.answers = [httpx.Response(429, json={"title": "Too Many Requests"}) for _ in range(3)]
    with pytest.raises(RateLimited, match="Too Many Requests"):
        ask([1], max_retries=2)
    assert len(service.requests) == 3


def test_a_service_that_is_not_there_is_named(ask, service):
    service.answers = [httpx.ConnectError("refused")]
    with pytest.raises(ServiceUnreachable, match=r"refused \(model m, address http://nim:1976/v1/ranking\)"):
        ask([1], max_retries=0)


def test_a_late_answer_is_a_timeout(ask, service):
    service.answers = [httpx.ReadTimeout("slow")]
    with pytest.raises(RerankTimeout, match="within 2 seconds"):
        ask([1], max_retries=0, timeout=2)


def test_one_failing_batch_fails_the_call_and_those_that_wait_are_not_sent(ask, service):
    service.answers = [httpx.Response(500, text="broken")]
    with pytest.raises(ServerError, match="broken") as failed:
        ask(range(100), max_batch_size=1, max_retries=0, max_concurrency=1)
    assert len(service.requests) < 100
    assert failed.value.passages == range(1)


def test_after_a_failing_batch_the_others_are_not_tried_again(service, monkeypatch):
    monkeypatch.setattr("connector.retries.backoff", lambda _: 29.0)  # the longest that is waited for
    service.answers = [httpx.Response(503), httpx.Response(400)]
    with pytest.raises(RequestRefused), client_of(service, max_batch_size=1, deadline=3600) as client:
        rank(client, 1, 2)
    assert len(service.requests) == 2


def test_a_redirect_is_reported_and_not_followed(ask, service):
    service.answers = [httpx.Response(307, headers={"location": "http://elsewhere.example/"})]
    with pytest.raises(RerankError, match=r"answered 307 .*redirects to http://elsewhere"):
        ask([1], api_key=SecretStr(KEY))
    assert [request.url.host for request in service.requests] == ["nim"]
    assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("answer", [httpx.Response(401), httpx.ConnectError("refused")], ids=["401", "refused"])
def test_a_key_is_in_no_traceback(ask, service, answer):
    service.answers = [answer]
    with pytest.raises(RerankError, match="model m") as failed:
        ask([1], api_key=SecretStr(KEY), max_retries=0)
    report = traceback.TracebackException.from_exception(failed.value, capture_locals=True)
    ours = [line for line in report.format() if package_name().split(".")[0] in line]
    assert ours
    assert KEY not in "".join(ours)


def test_without_a_model_the_first_that_is_listed_is_taken(service):
    assert client_of(service, None).model == "listed-model"
    assert str(service.listings[0].url) == "http://nim:1976/v1/models"


def test_the_catalog_lists_no_rerankers():
    with pytest.raises(ValueError, match="name one with `model`"):
        RankingClient(CATALOG)


def test_an_unreachable_list_of_models_is_an_error_with_the_address(service):
    service.models = httpx.ConnectError("refused")
    with pytest.raises(ServiceUnreachable, match="http://nim:1976/v1/models"):
        client_of(service, None)


async def test_no_more_requests_are_in_flight_than_allowed(service):
    flying = most = 0

    async def counting(request):
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0)
        flying -= 1
        return service(request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(counting)) as http_client:
        client = client_of(service, async_http_client=http_client, max_batch_size=1, max_concurrency=3)
        await client.arank("q", passages(*range(12)))
    assert most == 3


def test_a_wait_that_is_too_long_fails_at_once_and_says_how_long(ask, service):
    service.answers = [httpx.Response(429, headers={"retry-after": "3600"}, json={"title": "Too Many Requests"})]
    with pytest.raises(RateLimited, match="Try again in 3600 seconds") as failed:
        ask([1])
    assert len(service.requests) == 1
    assert failed.value.status == 429


def test_a_connection_error_at_the_deadline_is_not_tried_again(ask, service, monkeypatch):
    monkeypatch.setattr("connector.retries.backoff", lambda _: 500.0)
    service.answers = [httpx.ConnectError("refused")]
    with pytest.raises(ServiceUnreachable, match="Try again in 500 seconds"):
        ask([1], deadline=100)


def test_every_request_counts_under_the_rate_limit(ask, service):
    booked = []

    class Counting(RateLimit):
        def book(self, longest):
            booked.append(longest)
            return super().book(longest)

    service.answers = [httpx.Response(503)]
    ask(range(6), max_batch_size=2, rate_limit=Counting(100))
    assert len(booked) == len(service.requests) == 4


def test_a_rate_limit_that_leaves_no_time_sends_nothing(ask, service):
    limit = RateLimit(1, 3600)
    with limit.book(longest=0):
        pass
    with pytest.raises(RateLimited, match="limit of 1 requests in 3600 seconds") as failed:
        ask([1], rate_limit=limit)
    assert (service.requests, failed.value.status) == ([], None)


def test_a_request_of_a_sync_client_that_does_not_end_is_left_at_the_deadline(service):
    over = threading.Event()
    service.answers = [lambda _: over.wait()]
    with pytest.raises(RerankTimeout, match=r"deadline of 0\.01 seconds \(model m, address http://nim"):
        rank(client_of(service, deadline=0.01), 1)
    over.set()


async def test_a_request_of_an_async_client_that_does_not_end_is_left_at_the_deadline():
    left = []

    async def hang(request):
        try:
            await asyncio.Event().wait()
        finally:
            left.append(request.method)

    async with httpx.AsyncClient(transport=httpx.MockTransport(hang)) as http_client:
        client = RankingClient(NIM, "m", async_http_client=http_client, deadline=0.1)
        with pytest.raises(RerankTimeout, match="deadline"):
            await client.arank("q", passages(1))
    assert left == ["GET", "POST"]


LATER = {"nvcf-reqid": "abc-123"}


@pytest.fixture
def ask_catalog(service, way, monkeypatch):
    monkeypatch.setattr("connector.exchange.POLLING_PAUSE", 0.001)
    service.score = lambda _: 7.0
    return lambda **more: rank(client_of(service, target=CATALOG, api_key=SecretStr(KEY), **more), 1, way=way)


def test_a_deferred_answer_is_asked_for_at_nvidias_host(ask_catalog, service):
    scored = httpx.Response(200, json={"rankings": [{"index": 0, "logit": 7.0}]})
    service.answers = [httpx.Response(202, headers=LATER), httpx.Response(202, headers=LATER), scored]
    assert ask_catalog().logits == [7]
    polled = "https://api.nvcf.nvidia.com/v2/nvcf/pexec/status/abc-123"
    assert [str(request.url) for request in service.requests[1:]] == [polled] * 2
    assert service.requests[2].headers["authorization"] == f"Bearer {KEY}"


def test_a_deferred_answer_must_come_within_the_deadline(ask_catalog, service):
    service.answers = [httpx.Response(202, headers=LATER) for _ in range(1000)]
    with pytest.raises(RerankTimeout, match="promised for later"):
        ask_catalog(deadline=0.3)


@pytest.mark.parametrize("headers", [{}, {"nvcf-reqid": "../../elsewhere"}])
def test_a_deferred_answer_needs_a_request_id(ask_catalog, service, headers):
    service.answers = [httpx.Response(202, headers=headers)]
    with pytest.raises(InvalidAnswer, match="under which request id"):
        ask_catalog()


def test_a_service_without_a_route_for_it_does_not_say_whether_it_is_ready():
    assert RankingClient(resolve_endpoint("http://host/x/reranking", None, {}), "m").is_ready() is None


def test_a_key_that_the_service_repeats_is_not_in_the_error(ask, service):
    service.answers = [httpx.Response(401, json={"detail": "Bearer my-own-kind-of-key is not known, nor nvapi-x"})]
    with pytest.raises(RerankError) as failed:
        ask([1], api_key=SecretStr("my-own-kind-of-key"))
    assert failed.value.detail == "Bearer ... is not known, nor nvapi-…"


def test_a_connection_error_without_words_is_named():
    assert "could not be reached: ReadError" in str(make_transport_error(httpx.ReadError(""), 1, hosted=False))


def test_a_large_request_gives_no_warning():
    client = RankingClient(resolve_endpoint("http://127.0.0.1:9/v1", None, {}), "m", max_retries=0)
    with pytest.raises(ServiceUnreachable, match="could not be reached"):
        client.rank("q", [{"text": "a" * 2**21}])


def test_a_call_without_time_left_is_a_timeout(ask):
    with pytest.raises(RerankTimeout, match="deadline"):
        ask(range(3), max_batch_size=1, deadline=1e-9)
