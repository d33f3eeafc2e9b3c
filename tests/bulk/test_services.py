import asyncio
import json

import httpx
import pytest
from fake_service import FakeService

from nvrerank_helpers.bulk import JobStopped
from nvrerank_helpers.bulk import services as module
from nvrerank_helpers.bulk.services import CircuitBreaker, LoadBalancer, choose_model, score_passages
from nvrerank_helpers.connector import (
    DEFAULT_MODEL,
    PassageTooLong,
    RankingClient,
    RequestRefused,
    ServerError,
    resolve_endpoint,
)

TWO = [{"text": "1"}, {"text": "2"}]
GONE = [httpx.ConnectError("gone")] * 100


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(module, "POLL_INTERVAL", 0.0)


@pytest.fixture
def fakes():
    return [FakeService(), FakeService()]


def balance(fakes, patience=60.0):
    target = resolve_endpoint("http://nim/v1", None)
    clients = [RankingClient(target, "m", max_retries=0, async_http_client=fake.async_client()) for fake in fakes]
    return LoadBalancer(clients, "END", patience)


def count_requests(fakes):
    return [len(fake.requests) for fake in fakes]


def test_without_a_name_the_catalog_has_its_current_model():
    assert choose_model(None, [None]) == DEFAULT_MODEL


async def test_the_least_busy_service_is_asked(fakes):
    balancer = balance(fakes)
    await asyncio.gather(*[balancer.arank("q", TWO) for _ in range(6)])
    assert count_requests(fakes) == [3, 3]


async def test_a_service_that_is_gone_is_left_out_and_no_query_is_lost(fakes):
    fakes[0].answers = GONE
    balancer = balance(fakes)
    answers = await asyncio.gather(*[balancer.arank("q", TWO) for _ in range(8)])
    assert [answer.logits for answer in answers] == [[1.0, 2.0]] * 8


def test_a_service_that_failed_is_tried_with_one_request():
    service = CircuitBreaker(None)
    with service.count_request():
        assert service.is_available
        service.record_failure()
        assert not service.is_available
    assert service.is_available
    service.record_success()
    with service.count_request():
        assert service.is_available


def test_a_service_is_paused_longer_after_every_failure(monkeypatch):
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module, "FIRST_PAUSE", 1.0)
    service, pauses = CircuitBreaker(None), []
    for _ in range(7):
        service.record_failure()
        service.record_failure()  # of a request that was in flight with the first
        pauses.append(service._paused_until - now)
        now = service._paused_until
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


async def test_without_any_answer_the_job_stops_and_says_how_to_resume(fakes):
    fakes[0].answers = GONE
    with pytest.raises(JobStopped, match=r"(?s)No service answered for 0 seconds.*gone.*the same command resumes"):
        await balance(fakes[:1], patience=0.0).arank("q", TWO)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 410])
async def test_an_error_that_every_query_would_get_stops_the_job(fakes, status):
    fakes[0].answers = [httpx.Response(status, text="no")]
    with pytest.raises(JobStopped, match=f"{status}"):
        await balance(fakes[:1]).arank("q", TWO)


async def test_a_refused_request_is_not_sent_again(fakes):
    fakes[0].answers = [httpx.Response(422, text="no")]
    with pytest.raises(RequestRefused):
        await balance(fakes).arank("q", TWO)
    assert sum(count_requests(fakes)) == 1


class BreaksOnPoison(FakeService):
    """Answers 500 to one query, and ranks the others."""

    def rank(self, request):
        if json.loads(request.content)["query"]["text"] == "poison":
            return httpx.Response(500, text="broken")
        return super().rank(request)


async def test_a_query_that_always_fails_is_given_up_while_others_are_answered():
    balancer = balance([BreaksOnPoison()])
    poison = asyncio.create_task(balancer.arank("poison", TWO))
    while not poison.done():
        await balancer.arank("good", TWO)
    with pytest.raises(ServerError):
        await poison


async def test_a_busy_service_is_never_the_fault_of_a_query(fakes):
    fakes[0].answers = [httpx.Response(503, text="full"), None] * 20
    balancer = balance(fakes[:1])
    assert len(await asyncio.gather(*[balancer.arank("q", TWO) for _ in range(20)])) == 20


class RefusesEmptyPassages(FakeService):
    """Refuses requests with an empty passage, as a NIM does."""

    def rank(self, request):
        if all(passage["text"] for passage in json.loads(request.content)["passages"]):
            return super().rank(request)
        return httpx.Response(422, text="Input length 9000 exceeds maximum allowed token size 8192")


@pytest.mark.parametrize("bad", [{0}, {7}, {2, 3}, {0, 4, 7}, set(range(8)), set()])
async def test_only_the_passages_at_fault_fail(bad):
    texts = ["" if place in bad else str(place) for place in range(8)]
    outcomes, _, _ = await score_passages(balance([RefusesEmptyPassages()]).arank, "q", texts)
    assert {place for place, outcome in enumerate(outcomes) if isinstance(outcome, PassageTooLong)} == bad
    assert [outcome for outcome in outcomes if isinstance(outcome, float)] == [float(text) for text in texts if text]


async def test_one_passage_at_fault_costs_few_requests():
    service = RefusesEmptyPassages()
    _, requests, tokens = await score_passages(balance([service]).arank, "q", [""] + ["1"] * 63)
    assert requests == len(service.requests) == 13
    assert tokens == 63


async def test_a_query_that_was_given_up_fails_as_a_whole():
    async def fail(query, passages):
        raise ServerError("broken")

    outcomes, _, _ = await score_passages(fail, "q", ["1", "2"])
    assert [type(outcome) for outcome in outcomes] == [ServerError, ServerError]
