import asyncio
import threading
import time
import traceback

import httpx
import pytest
from connector.client import RankingClient
from connector.endpoints import endpoint
from connector.errors import (
    InvalidAnswer,
    RateLimited,
    RequestRefused,
    RerankTimeout,
    ServerError,
    ServiceUnreachable,
)
from connector.rate_limit import RateLimit
from connector.replies import transport_error
from connector_alias import package_name
from fake_service import FakeService
from pydantic import SecretStr

NIM = endpoint("http://nim:1976/v1", None, {})
KEY = "nvapi-secret-of-the-test"


def passages(*numbers):
    return [{"text": str(number)} for number in numbers]


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr("connector.retries.backoff", lambda _: 0.0)
    return FakeService()


@pytest.fixture(params=["sync", "async"])
def rank(request, service):
    """Rank through the sync or the async method: `rank(numbers, **arguments of the client)`."""

    def ranked(numbers, truncate="END", **arguments):
        client = RankingClient(
            NIM, "m", http_client=service.client(), async_http_client=service.async_client(), **arguments
        )
        if request.param == "sync":
            return client.rank("q", passages(*numbers), truncate)
        return asyncio.run(client.arank("q", passages(*numbers), truncate))

    return ranked


def test_logits_come_back_in_the_order_of_the_passages(rank):
    assert rank([1, 3, 2]).logits == [1, 3, 2]


def test_passages_are_sent_in_batches_and_joined(rank, service):
    result = rank(range(10), max_batch_size=4)
    assert result.logits == list(range(10))
    assert sorted(len(body["passages"]) for body in service.bodies) == [2, 4, 4]
    assert (result.requests, result.tokens, result.retries) == (3, 10, 0)


def test_no_passages_send_nothing(rank, service):
    assert rank([]).logits == []
    assert service.requests == []


def test_truncate_is_sent_as_it_was_asked_for(rank, service):
    rank([1], truncate="NONE")
    assert service.bodies[0]["truncate"] == "NONE"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_fault_is_tried_again(rank, service, status):
    service.answers = [httpx.Response(status)]
    assert rank([1, 2]).retries == 1


def test_a_broken_connection_is_tried_again(rank, service):
    service.answers = [httpx.ConnectError("refused"), httpx.ReadError("reset")]
    assert rank([1, 2]).retries == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_refusal_is_not_tried_again(rank, service, status):
    service.answers = [httpx.Response(status, json={"detail": "because"})]
    with pytest.raises(Exception, match="because"):
        rank([1])
    assert len(service.requests) == 1


def test_after_the_last_try_the_error_of_the_service_is_raised(rank, service):
    service.answers = [httpx.Response(429, json={"title": "Too Many Requests"}) for _ in range(3)]
    with pytest.raises(RateLimited, match="Too Many Requests"):
        rank([1], max_retries=2)
    assert len(service.requests) == 3


def test_a_service_that_is_not_there_is_named(rank, service):
    service.answers = [httpx.ConnectError("refused")]
    with pytest.raises(ServiceUnreachable, match=r"refused \(model m, address http://nim:1976/v1/ranking\)"):
        rank([1], max_retries=0)


def test_a_late_answer_is_a_timeout(rank, service):
    service.answers = [httpx.ReadTimeout("slow")]
    with pytest.raises(RerankTimeout, match="within 2 seconds"):
        rank([1], max_retries=0, timeout=2)


def test_one_failing_batch_fails_the_call(rank, service):
    service.answers = [httpx.Response(500, text="broken")]
    with pytest.raises(ServerError, match="broken"):
        rank(range(10), max_batch_size=2, max_retries=0)


def test_after_a_failing_batch_those_that_wait_are_not_sent(rank, service):
    service.answers = [httpx.Response(500)]
    with pytest.raises(ServerError):
        rank(range(100), max_batch_size=1, max_retries=0, max_concurrency=1)
    assert len(service.requests) < 100


def test_after_a_failing_batch_the_others_are_not_tried_again(service, monkeypatch):
    monkeypatch.setattr("connector.retries.backoff", lambda _: 20.0)
    service.answers = [httpx.Response(503), httpx.Response(400)]
    client = RankingClient(NIM, "m", max_batch_size=1, http_client=service.client())
    started = time.monotonic()
    with pytest.raises(RequestRefused):
        client.rank("q", passages(1, 2))
    client.close()
    assert len(service.requests) == 2
    assert time.monotonic() - started < 20


def test_an_answer_that_is_no_ranking_is_refused(rank, service):
    service.answers = [httpx.Response(200, html="<h1>Login</h1>")]
    with pytest.raises(InvalidAnswer, match="Login"):
        rank([1])


def test_a_success_without_content_is_no_answer(rank, service):
    service.answers = [httpx.Response(202)]
    with pytest.raises(InvalidAnswer, match="202"):
        rank([1])


def test_a_redirect_is_reported_and_not_followed(rank, service):
    service.answers = [httpx.Response(307, headers={"location": "http://elsewhere.example/"})]
    with pytest.raises(Exception, match=r"answered 307 .*redirects to http://elsewhere"):
        rank([1], api_key=SecretStr(KEY))
    assert [request.url.host for request in service.requests] == ["nim"]


def test_the_request_id_of_the_service_is_kept(rank, service):
    service.answers = [httpx.Response(403, headers={"nvcf-reqid": "r-17"})]
    with pytest.raises(Exception, match="request id r-17"):
        rank([1])


def test_a_key_goes_into_the_header(rank, service):
    rank([1], api_key=SecretStr(KEY))
    assert service.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_without_a_key_no_header_is_sent(rank, service):
    rank([1])
    assert "authorization" not in service.requests[0].headers


@pytest.mark.parametrize("answer", [lambda: httpx.Response(401), lambda: httpx.ConnectError("refused")])
def test_a_key_is_in_no_traceback(rank, service, answer):
    service.answers = [answer()]
    with pytest.raises(Exception, match="model m") as failed:
        rank([1], api_key=SecretStr(KEY), max_retries=0)
    report = traceback.TracebackException.from_exception(failed.value, capture_locals=True)
    ours = [line for line in report.format() if package_name().split(".")[0] in line]
    assert ours
    assert KEY not in "".join(ours)


def test_without_a_model_the_first_that_is_listed_is_taken(service):
    assert RankingClient(NIM, http_client=service.client()).model == "listed-model"
    assert str(service.listings[0].url) == "http://nim:1976/v1/models"


def test_the_catalog_lists_no_rerankers(service):
    with pytest.raises(ValueError, match="name one with `model`"):
        RankingClient(endpoint(None, None, {}), http_client=service.client())


def test_an_unreachable_list_of_models_is_an_error_with_the_address(service):
    service.models = httpx.ConnectError("refused")
    with pytest.raises(ServiceUnreachable, match="http://nim:1976/v1/models"):
        RankingClient(NIM, http_client=service.client())


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
        client = RankingClient(NIM, "m", async_http_client=http_client, max_batch_size=1, max_concurrency=3)
        await client.arank("q", passages(*range(12)))
    assert most == 3


def test_a_wait_that_is_too_long_fails_at_once_and_says_how_long(rank, service):
    service.answers = [httpx.Response(429, headers={"retry-after": "3600"}, json={"title": "Too Many Requests"})]
    with pytest.raises(RateLimited, match="Try again in 3600 seconds") as failed:
        rank([1])
    assert len(service.requests) == 1
    assert failed.value.status == 429


def test_a_connection_error_at_the_deadline_is_not_tried_again(rank, service, monkeypatch):
    monkeypatch.setattr("connector.retries.backoff", lambda _: 5.0)
    service.answers = [httpx.ConnectError("refused")]
    with pytest.raises(ServiceUnreachable, match="Try again in 5 seconds"):
        rank([1], deadline=1)


def test_a_failing_batch_says_which_passages_it_held(rank, service):
    service.answers = [httpx.Response(400, text="no")]
    with pytest.raises(Exception, match="no") as failed:
        rank(range(10), max_batch_size=20)
    assert failed.value.passages == range(10)


def test_every_request_counts_under_the_rate_limit(rank, service):
    booked = []

    class Counting(RateLimit):
        def book(self, longest):
            booked.append(longest)
            return super().book(longest)

    service.answers = [httpx.Response(503)]
    rank(range(6), max_batch_size=2, rate_limit=Counting(100))
    assert len(booked) == len(service.requests) == 4


def test_a_rate_limit_that_leaves_no_time_sends_nothing(rank, service):
    limit = RateLimit(1, 3600)
    with limit.book(longest=0):
        pass
    with pytest.raises(RateLimited, match="limit of 1 requests in 3600 seconds") as failed:
        rank([1], rate_limit=limit)
    assert (service.requests, failed.value.status) == ([], None)


def test_a_request_that_does_not_end_by_itself_is_left_at_the_deadline(service):
    over = threading.Event()

    def hang(request):
        over.wait()
        return service(request)

    with httpx.Client(transport=httpx.MockTransport(hang)) as http_client:
        client = RankingClient(NIM, "m", http_client=http_client, deadline=0.01)
        with pytest.raises(RerankTimeout, match=r"deadline of 0\.01 seconds \(model m, address http://nim"):
            client.rank("q", passages(1))
        over.set()
        client.close()


async def test_a_request_that_does_not_end_by_itself_is_left_at_the_deadline_async():
    left = []

    async def hang(request):
        try:
            await asyncio.Event().wait()
        finally:
            left.append(request.method)

    async with httpx.AsyncClient(transport=httpx.MockTransport(hang)) as http_client:
        client = RankingClient(NIM, "m", async_http_client=http_client, deadline=0.01)
        with pytest.raises(RerankTimeout, match="deadline"):
            await client.arank("q", passages(1))
    assert left == ["GET", "POST"]


LATER = {"nvcf-reqid": "abc-123"}


def scored():
    return httpx.Response(200, json={"rankings": [{"index": 0, "logit": 7.0}]})


@pytest.fixture(params=["sync", "async"])
def rank_hosted(request, service, monkeypatch):
    monkeypatch.setattr("connector.exchange.POLLING_PAUSE", 0.001)

    def ranked(**arguments):
        client = RankingClient(
            endpoint(None, None, {}),
            "m",
            api_key=SecretStr(KEY),
            http_client=service.client(),
            async_http_client=service.async_client(),
            **arguments,
        )
        if request.param == "sync":
            return client.rank("q", passages(1))
        return asyncio.run(client.arank("q", passages(1)))

    return ranked


def test_an_answer_that_comes_later_is_asked_for_at_nvidias_host(rank_hosted, service):
    service.answers = [httpx.Response(202, headers=LATER), httpx.Response(202, headers=LATER), scored()]
    assert rank_hosted().logits == [7]
    assert [str(request.url) for request in service.requests[1:]] == [
        "https://api.nvcf.nvidia.com/v2/nvcf/pexec/status/abc-123"
    ] * 2
    assert service.requests[2].headers["authorization"] == f"Bearer {KEY}"


def test_a_later_answer_must_come_within_the_deadline(rank_hosted, service):
    service.answers = [httpx.Response(202, headers=LATER) for _ in range(1000)]
    with pytest.raises(RerankTimeout, match="promised for later"):
        rank_hosted(deadline=0.05)


@pytest.mark.parametrize("headers", [{}, {"nvcf-reqid": "../../elsewhere"}])
def test_a_later_answer_needs_a_request_id(rank_hosted, service, headers):
    service.answers = [httpx.Response(202, headers=headers)]
    with pytest.raises(InvalidAnswer, match="under which request id"):
        rank_hosted()


def test_a_service_without_a_route_for_it_does_not_say_whether_it_is_ready(service):
    assert RankingClient(endpoint("http://host/x/reranking", None, {}), "m").is_ready() is None


def test_the_other_dialect_works_through_the_same_client(service):
    service.answers = [httpx.Response(200, json={"results": [{"index": 0, "relevance_score": 0.25}]})]
    client = RankingClient(endpoint("http://gateway/v1/rerank", None, {}), "m", http_client=service.client())
    assert client.rank("q", passages(1)).logits == [0.25]
    assert service.bodies == [{"model": "m", "query": "q", "documents": ["1"], "top_n": 1}]


def test_a_key_that_the_service_repeats_is_not_in_the_error(rank, service):
    service.answers = [httpx.Response(401, json={"detail": "Bearer my-own-kind-of-key is not known, nor nvapi-x"})]
    with pytest.raises(Exception, match=r"Bearer \.\.\. is not known, nor nvapi-…") as failed:
        rank([1], api_key=SecretStr("my-own-kind-of-key"))
    assert failed.value.detail == "Bearer ... is not known, nor nvapi-…"


def test_a_key_in_an_answer_that_is_no_ranking_is_not_in_the_error(rank, service):
    service.answers = [httpx.Response(200, text="You sent my-own-kind-of-key")]
    with pytest.raises(InvalidAnswer, match=r"You sent \.\.\. \(model"):
        rank([1], api_key=SecretStr("my-own-kind-of-key"))


def test_an_answer_that_is_not_what_its_encoding_says_is_refused(rank, service):
    class Undecodable(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self):
            yield b"plain"

        async def __aiter__(self):
            yield b"plain"

    service.answers = [httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Undecodable())]
    with pytest.raises(InvalidAnswer, match="Content-Encoding"):
        rank([1])


def test_a_connection_error_without_words_is_told_by_its_name():
    error = transport_error(httpx.ReadError(""), 1, hosted=False)
    assert "could not be reached: ReadError" in str(error)


def test_a_large_request_gives_no_warning():
    client = RankingClient(endpoint("http://127.0.0.1:9/v1", None, {}), "m", max_retries=0)
    with pytest.raises(ServiceUnreachable, match="could not be reached"):
        client.rank("q", [{"text": "a" * 2**21}])


def test_a_call_without_time_left_is_a_timeout(rank):
    with pytest.raises(RerankTimeout, match="deadline"):
        rank(range(3), max_batch_size=1, deadline=1e-9)
