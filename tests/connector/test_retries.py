import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from nvrerank_helpers.connector.errors import RateLimited, RerankTimeout
from nvrerank_helpers.connector.rate_limit import RateLimit
from nvrerank_helpers.connector.retries import LONGEST_WAIT, GaveUp, Patience, read_by_the_clock


def patience(seconds=120.0, **arguments):
    return Patience(**{"max_retries": 3, "timeout": 60.0, "ends": time.monotonic() + seconds} | arguments)


def answer(retry_after=None):
    return httpx.Response(429, headers={"retry-after": retry_after} if retry_after else {})


@pytest.mark.parametrize("asked", ["2", " 2 "])
def test_the_wait_that_the_service_asks_for_is_obeyed(asked):
    assert patience().wait_after(answer(asked)) == 2


def test_a_date_is_understood_too():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)
    assert 8 < patience().wait_after(answer(later)) <= 10


@pytest.mark.parametrize(
    "outcome",
    [answer(), answer("soon"), answer(f"Fri, 31 Dec 1999 23:59:59 +{10**20}"), httpx.ConnectError("refused")],
)
def test_otherwise_the_wait_grows_at_random(outcome):
    subject = patience()
    subject.attempts_made = 3
    assert 0 <= subject.wait_after(outcome) <= 2


@pytest.mark.parametrize("asked", [LONGEST_WAIT + 1, 86_400])
def test_a_wait_that_is_too_long_ends_it_at_once(asked):
    with pytest.raises(GaveUp) as end:
        patience(1e9).wait_after(answer(f"{asked:.0f}"))
    assert end.value.wait == asked


def test_no_wait_goes_beyond_the_deadline():
    with pytest.raises(GaveUp):
        patience(5).wait_after(answer("6"))


def test_each_try_gets_what_is_left_of_the_deadline():
    subject = patience(0.5)
    assert 0 < subject.request_timeout["read"] <= 0.5
    assert patience(100, timeout=7.0).request_timeout["connect"] == 7


def test_after_a_wait_the_timeout_is_shorter():
    subject = patience(0.5)
    before = subject.request_timeout["read"]
    subject.sleep(answer("0"))
    assert subject.request_timeout["read"] < before


async def test_waiting_is_the_same_async():
    subject = patience(0.5)
    before = subject.request_timeout["read"]
    await subject.asleep(answer("0"))
    assert subject.request_timeout["read"] < before


@pytest.fixture
def naps(monkeypatch):
    """Keeps how long was slept, instead of sleeping."""
    naps = []

    async def nap(seconds):
        naps.append(seconds)

    monkeypatch.setattr(threading.Event, "wait", lambda _, seconds: naps.append(seconds))
    monkeypatch.setattr(asyncio, "sleep", nap)
    return naps


def limited(**arguments):
    return patience(rate_limit=RateLimit(1, 60, clock=lambda: 0.0), **arguments)


def test_each_try_waits_for_its_place_under_the_rate_limit(naps):
    subject = limited()
    subject.begin()
    subject.sleep(answer("2"))
    assert naps == [0, 2, 60]


async def test_each_try_waits_for_its_place_async_too(naps):
    subject = limited()
    await subject.abegin()
    await subject.asleep(answer("2"))
    assert naps == [0, 2, 60]


def test_a_place_beyond_the_deadline_is_not_waited_for(naps):
    subject = limited(seconds=50.0)
    subject.begin()
    with pytest.raises(RateLimited):
        subject.begin()
    assert naps == [0]


def test_when_the_call_is_over_nobody_waits_any_more_and_the_place_is_given_back():
    over, limit = threading.Event(), RateLimit(1, 3600, clock=lambda: 0.0)
    subject = patience(1e6, rate_limit=limit, over=over)
    subject.begin()
    over.set()
    for wait_for_the_next in (subject.begin, lambda: subject.sleep(answer("30"))):
        with pytest.raises(RerankTimeout, match="had ended"):
            wait_for_the_next()
    with limit.book(longest=1e6) as wait:
        assert wait == 3600


async def test_a_wait_that_is_cancelled_gives_its_place_back():
    limit = RateLimit(1, 3600, clock=lambda: 0.0)
    subject = patience(1e6, rate_limit=limit)
    await subject.abegin()
    waiting = asyncio.create_task(subject.abegin())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    with limit.book(longest=1e6) as wait:
        assert wait == 3600


class Body(httpx.SyncByteStream):
    """Four parts, and what happens before the third."""

    closed = False

    def __init__(self, before_the_third=lambda: None):
        self.before_the_third = before_the_third

    def __iter__(self):
        yield b"1"
        yield b"2"
        self.before_the_third()
        yield b"3"
        yield b"4"

    def close(self):
        self.closed = True


def received(body, **extensions):
    request = httpx.Request("POST", "http://nim/v1/ranking", extensions=extensions)
    response = httpx.Response(200, stream=body, request=request)
    read_by_the_clock(response)
    return response


def test_a_body_that_comes_in_time_is_read_and_closed():
    body = Body()
    assert received(body, retry=patience()).read() == b"1234"
    assert body.closed


def test_a_body_that_drips_beyond_the_deadline_is_a_timeout(monkeypatch):
    subject = patience(seconds=100.0)
    late = Body(lambda: monkeypatch.setattr(time, "monotonic", lambda: subject._ends + 1))
    with pytest.raises(httpx.ReadTimeout, match="drips"):
        received(late, retry=subject).read()


def test_no_read_of_a_body_may_last_longer_than_what_is_left(monkeypatch):
    subject = patience(seconds=100.0)
    monkeypatch.setattr(time, "monotonic", lambda: subject._ends - 7)
    received(Body(), retry=subject)
    assert subject.request_timeout["read"] == 7


def test_an_answer_to_a_request_without_retries_is_left_alone():
    body = Body()
    assert received(body).stream is body
