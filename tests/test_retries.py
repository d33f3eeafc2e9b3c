import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from nvrerank_helpers.retries import LONGEST_WAIT, GaveUp, Patience


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


@pytest.mark.parametrize("outcome", [answer(), answer("soon"), httpx.ConnectError("refused")])
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
