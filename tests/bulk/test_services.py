import asyncio
import json

import httpx
import pytest
from fake_service import FakeService

from nvrerank_helpers.bulk import services as module
from nvrerank_helpers.bulk.errors import JobStopped
from nvrerank_helpers.bulk.services import Services, scored
from nvrerank_helpers.connector import PassageTooLong, RankingClient, RequestRefused, ServerError, endpoint

TWO = [{"text": "1"}, {"text": "2"}]


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    monkeypatch.setattr(module, "FIRST_REST", 0.0)
    monkeypatch.setattr(module, "LOOK", 0.0)


@pytest.fixture
def fakes():
    return [FakeService(), FakeService()]


def services_of(fakes, patience=60.0):
    target = endpoint("http://nim/v1", None)
    clients = [RankingClient(target, "m", max_retries=0, async_http_client=fake.async_client()) for fake in fakes]
    return Services(clients, "END", patience)


def asked(fakes):
    return [len(fake.requests) for fake in fakes]


async def test_the_least_busy_service_is_asked(fakes):
    services = services_of(fakes)
    await asyncio.gather(*[services.arank("q", TWO) for _ in range(6)])
    assert asked(fakes) == [3, 3]


async def test_a_service_that_is_gone_is_left_out_and_no_query_is_lost(fakes):
    services = services_of(fakes)
    fakes[0].answers = [httpx.ConnectError("gone")] * 100
    answers = await asyncio.gather(*[services.arank("q", TWO) for _ in range(8)])
    assert [answer.logits for answer in answers] == [[1.0, 2.0]] * 8


async def test_a_service_that_failed_is_tried_with_one_request(fakes):
    services = services_of(fakes[:1])
    fakes[0].answers = [httpx.ConnectError("gone")]
    await services.arank("q", TWO)
    first = services._services[0]
    first.failed()
    with first.asked():
        assert not first.open
    assert first.open


async def test_a_service_rests_longer_with_every_failure(monkeypatch):
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module, "FIRST_REST", 1.0)
    service = module.Service(None)
    rests = []
    for _ in range(7):
        service.failed()
        service.failed()  # of a request that was in flight with the first
        rests.append(service._rests_until - now)
        now = service._rests_until
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


async def test_without_any_answer_the_job_stops_and_says_how_to_go_on(fakes):
    fakes[0].answers = [httpx.ConnectError("gone")] * 100
    with pytest.raises(JobStopped, match=r"(?s)No service answered for 0 seconds.*gone.*the same command goes on"):
        await services_of(fakes[:1], patience=0.0).arank("q", TWO)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 410])
async def test_what_every_query_would_be_told_stops_the_job(fakes, status):
    fakes[0].answers = [httpx.Response(status, text="no")]
    with pytest.raises(JobStopped, match=f"{status}"):
        await services_of(fakes[:1]).arank("q", TWO)


async def test_a_refused_request_is_not_sent_again(fakes):
    fakes[0].answers = [httpx.Response(422, text="no")]
    with pytest.raises(RequestRefused):
        await services_of(fakes).arank("q", TWO)
    assert sum(asked(fakes)) == 1


class BreaksOn(FakeService):
    """Answers 500 to one query, and ranks the others."""

    def __call__(self, request):
        if json.loads(request.content)["query"]["text"] == "poison":
            return httpx.Response(500, text="broken")
        return super().__call__(request)


async def test_a_query_that_always_fails_is_given_up_while_others_are_answered():
    services = services_of([BreaksOn()])
    poison = asyncio.create_task(services.arank("poison", TWO))
    while not poison.done():
        await services.arank("good", TWO)
    with pytest.raises(ServerError):
        await poison


async def test_a_busy_service_is_never_the_fault_of_a_query(fakes):
    services = services_of(fakes[:1])
    fakes[0].answers = [httpx.Response(503, text="full"), None] * 20
    answers = await asyncio.gather(*[services.arank("q", TWO) for _ in range(20)])
    assert len(answers) == 20


class Picky(FakeService):
    """Refuses requests with an empty passage, as a NIM does."""

    def __call__(self, request):
        texts = [passage["text"] for passage in json.loads(request.content)["passages"]]
        if not all(texts):
            self.requests.append(request)
            return httpx.Response(422, text="Input length 9000 exceeds maximum allowed token size 8192")
        return super().__call__(request)


@pytest.mark.parametrize("bad", [{0}, {7}, {2, 3}, {0, 4, 7}, set(range(8)), set()])
async def test_only_the_passages_at_fault_fail(bad):
    texts = ["" if place in bad else str(place) for place in range(8)]
    outcomes, _, _ = await scored(services_of([Picky()]).arank, "q", texts)
    assert {place for place, outcome in enumerate(outcomes) if isinstance(outcome, PassageTooLong)} == bad
    assert [outcome for outcome in outcomes if isinstance(outcome, float)] == [float(text) for text in texts if text]


async def test_one_passage_at_fault_costs_few_requests():
    picky = Picky()
    _, requests, tokens = await scored(services_of([picky]).arank, "q", [""] + ["1"] * 63)
    assert requests == len(picky.requests) == 13
    assert tokens == 63


async def test_a_query_that_was_given_up_fails_as_a_whole():
    async def broken(query, passages):
        raise ServerError("broken")

    outcomes, _, _ = await scored(broken, "q", ["1", "2"])
    assert [type(outcome) for outcome in outcomes] == [ServerError, ServerError]


async def test_closing_closes_the_clients(fakes):
    services = services_of(fakes)
    await services.arank("q", TWO)
    await services.aclose()
    assert sum(asked(fakes)) == 1
