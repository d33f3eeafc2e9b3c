import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from connector.errors import RateLimited
from connector.rate_limit import RateLimit


class Clock:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def book(limit, longest):
    with limit.book(longest) as wait:
        return wait


class BrokenOffError(Exception):
    """A wait ended before its time."""


def break_off(limit):
    with pytest.raises(BrokenOffError), limit.book(longest=1000):
        raise BrokenOffError


def test_as_many_as_allowed_begin_at_once(clock):
    limit = RateLimit(3, clock=clock)
    assert [book(limit, longest=100) for _ in range(3)] == [0, 0, 0]


def test_the_next_one_waits_until_the_first_is_out_of_the_window(clock):
    limit = RateLimit(2, seconds=60, clock=clock)
    book(limit, longest=100)
    clock.now += 10
    book(limit, longest=100)
    clock.now += 5
    assert [book(limit, longest=100) for _ in range(2)] == [45, 55]


def test_a_place_that_was_waited_for_counts_from_when_it_is_taken(clock):
    limit = RateLimit(1, seconds=60, clock=clock)
    assert [book(limit, longest=1000) for _ in range(4)] == [0, 60, 120, 180]


def test_after_a_pause_all_places_are_free_again(clock):
    limit = RateLimit(2, seconds=60, clock=clock)
    first = [book(limit, longest=100) for _ in range(2)]
    clock.now += 60
    assert [*first, book(limit, longest=0), book(limit, longest=0)] == [0, 0, 0, 0]


def test_a_wait_that_does_not_fit_is_refused_at_once_and_books_nothing(clock):
    limit = RateLimit(1, seconds=60, clock=clock)
    book(limit, longest=10)
    with pytest.raises(RateLimited, match="1 requests in 60 seconds") as refused:
        book(limit, longest=10)
    assert refused.value.retry_after == 60
    assert book(limit, longest=100) == 60


def test_a_wait_that_would_leave_no_time_for_the_request_is_refused(clock):
    limit = RateLimit(1, seconds=60, clock=clock)
    book(limit, longest=10)
    with pytest.raises(RateLimited):
        book(limit, longest=60)


def test_a_free_place_is_given_also_to_who_has_no_time():
    assert book(RateLimit(1), longest=0) == 0


def test_a_wait_that_is_broken_off_gives_its_place_back(clock):
    limit = RateLimit(1, seconds=60, clock=clock)
    book(limit, longest=0)
    for _ in range(3):
        break_off(limit)
    assert book(limit, longest=1000) == 60


def test_a_place_that_was_given_back_is_not_counted_among_those_in_use(clock):
    limit = RateLimit(2, seconds=60, clock=clock)
    waiting = [book(limit, longest=1000) for _ in range(3)]
    break_off(limit)
    waiting += [book(limit, longest=1000) for _ in range(3)]
    assert waiting == [0, 0, 60, 60, 120, 120]


def test_after_several_were_given_back_nobody_is_overtaken(clock):
    limit = RateLimit(2, seconds=60, clock=clock)
    for _ in range(2):
        book(limit, longest=1000)
    with suppress(BrokenOffError), ExitStack() as waiting:
        for _ in range(2):
            waiting.enter_context(limit.book(longest=1000))
        assert book(limit, longest=1000) == 120
        raise BrokenOffError
    assert book(limit, longest=1000) == 120


def test_a_place_that_is_long_past_may_be_given_back(clock):
    limit = RateLimit(1, seconds=60, clock=clock)
    with suppress(BrokenOffError), limit.book(longest=0):
        clock.now += 600
        book(limit, longest=0)
        raise BrokenOffError
    assert book(limit, longest=1000) == 60


def test_threads_never_get_one_place_twice(clock):
    limit = RateLimit(5, seconds=10, clock=clock)
    with ThreadPoolExecutor(8) as pool:
        waits = list(pool.map(lambda _: book(limit, longest=10_000), range(500)))
    assert sorted(waits) == [10 * (place // 5) for place in range(500)]


@pytest.mark.parametrize(("requests", "seconds"), [(0, 60), (-1, 60), (1, 0), (1, -1), (1, float("nan"))])
def test_a_limit_of_nothing_is_refused(requests, seconds):
    with pytest.raises(ValueError, match="at least 1 request"):
        RateLimit(requests, seconds)


def test_a_copy_for_another_process_has_the_numbers_and_counts_anew():
    limit = RateLimit(1, 3600)
    book(limit, longest=0)
    copy = pickle.loads(pickle.dumps(limit))
    assert repr(copy) == "RateLimit(1, 3600)"
    assert book(copy, longest=0) == 0
