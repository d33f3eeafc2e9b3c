import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from connector import retries
from connector.errors import RateLimited, RerankTimeout, ServerError, ServiceUnreachable
from connector.replies import Reply
from connector.retries import LONGEST_WAIT, backoff, parse_retry_after, send_with_retries


def reply(status, retry_after=None):
    return Reply(status, {"retry-after": retry_after} if retry_after else {}, b"")


@pytest.fixture(autouse=True)
def naps(monkeypatch):
    """Keeps how long was slept, instead of sleeping; a wait chosen at random is 1.5 s."""
    naps = []

    async def nap(seconds):
        naps.append(seconds)

    monkeypatch.setattr(retries, "backoff", lambda _: 1.5)
    monkeypatch.setattr(asyncio, "sleep", nap)
    return naps


def send(*outcomes, max_retries=3, seconds=120.0):
    left = list(outcomes)

    async def once():
        outcome = left.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return asyncio.run(send_with_retries(once, max_retries, time.monotonic() + seconds))


def test_an_answer_that_is_final_is_returned_with_the_number_of_retries():
    assert send(reply(503), reply(200)) == (reply(200), 1)


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422, 501])
def test_a_refusal_is_final(status):
    assert send(reply(status)) == (reply(status), 0)


@pytest.mark.parametrize("status", [408, 425, 429, 499, 500, 502, 503, 504, 520, 521, 522, 523, 524])
def test_a_status_that_passes_is_tried_again(status):
    assert send(reply(status), reply(200))[1] == 1


@pytest.mark.parametrize("error", [ServiceUnreachable("refused"), RerankTimeout("late")])
def test_a_failed_connection_is_tried_again(error, naps):
    assert send(error, reply(200))[1] == 1
    assert naps == [1.5]


def test_the_last_failure_is_raised():
    with pytest.raises(ServerError, match="502"):
        send(reply(500), reply(502), max_retries=1)


def test_other_errors_are_not_tried_again():
    with pytest.raises(RateLimited, match="here"):
        send(RateLimited("here"), reply(200))


def test_the_wait_that_the_service_asks_for_is_obeyed(naps):
    send(reply(429, " 2 "), reply(200))
    assert naps == [2]


def test_a_date_is_understood_too():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    assert 0 < parse_retry_after(reply(429, later)) <= 600
    assert parse_retry_after(reply(429, "Fri, 31 Dec 1999 23:59:59 GMT")) == 0


@pytest.mark.parametrize(
    "asked", [None, "", "soon", "-1", "1e3", "1.2.3", "\u0662", f"Fri, 31 Dec 1999 23:59:59 +{10**20}"]
)
def test_what_is_neither_seconds_nor_a_date_is_ignored(asked):
    assert parse_retry_after(reply(429, asked)) is None


@pytest.mark.parametrize("asked", [f"{LONGEST_WAIT + 1:.0f}", "86400"])
def test_a_wait_that_is_too_long_ends_it_at_once_and_is_reported(asked):
    with pytest.raises(RateLimited) as ended:
        send(reply(429, asked), reply(200), seconds=1e9)
    assert ended.value.retry_after == float(asked)


def test_no_wait_goes_beyond_the_deadline(naps):
    with pytest.raises(RateLimited):
        send(reply(429, "6"), reply(200), seconds=5)
    assert naps == []


@pytest.mark.parametrize("retry", [0, 3, 50, 10_000])
def test_a_random_wait_grows_up_to_a_limit(retry, monkeypatch):
    monkeypatch.undo()
    assert 0 <= backoff(retry) <= LONGEST_WAIT
