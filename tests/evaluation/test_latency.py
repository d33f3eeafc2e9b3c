import asyncio

import numpy as np
import pandas as pd
import pytest

from nvrerank_helpers.connector import Overloaded
from nvrerank_helpers.evaluation.latency import Load, _summarize_load, attempt, draw_loads, measure_loads, run_load


class Service:
    """Counts calls in progress. Each one waits for its turn in the event loop, and the first ones fail."""

    def __init__(self, failing=0, error=None):
        self.calls = self.in_progress = self.most = 0
        self.failing, self.error = failing, error or Overloaded("busy")

    async def __call__(self):
        self.calls += 1
        number = self.calls
        self.in_progress += 1
        self.most = max(self.most, self.in_progress)
        await asyncio.sleep(0)
        self.in_progress -= 1
        if number <= self.failing:
            raise self.error


def test_an_attempt_records_what_a_call_returned():
    tried = attempt(max, 3, 7)
    assert (tried.result, tried.error) == (7, None)
    assert tried.seconds >= 0


def test_an_attempt_records_what_a_call_raised():
    tried = attempt(int, "seven")
    assert (tried.result, type(tried.error)) == (None, ValueError)


@pytest.mark.parametrize(
    ("call", "word"), [(lambda: 7, "right"), (lambda: 8, "wrong and silent"), (lambda: 1 / 0, "ZeroDivisionError")]
)
def test_an_attempt_describes_how_it_ended(call, word):
    assert attempt(call).describe(7) == word


async def test_all_calls_are_made_and_timed():
    service = Service()
    load = await run_load(service, calls=10, concurrency=3)
    assert (service.calls, len(load.latencies), load.concurrency) == (10, 10, 3)
    assert load.seconds >= max(load.latencies) > 0


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_the_given_number_of_calls_is_in_progress(concurrency):
    service = Service()
    await run_load(service, calls=12, concurrency=concurrency)
    assert service.most == concurrency


async def test_failed_calls_are_counted_by_error_and_not_timed():
    load = await run_load(Service(failing=2), calls=5, concurrency=2)
    assert (dict(load.failed), len(load.latencies)) == ({"Overloaded": 2}, 3)


async def test_any_other_error_ends_the_measurement():
    with pytest.RaisesGroup(TypeError):
        await run_load(Service(failing=1, error=TypeError("a bug")), calls=5, concurrency=1)


@pytest.mark.parametrize(("calls", "concurrency"), [(0, 1), (1, 0)])
async def test_less_than_one_is_refused(calls, concurrency):
    with pytest.raises(ValueError, match="at least 1"):
        await run_load(Service(), calls=calls, concurrency=concurrency)


async def test_each_load_is_a_row_after_a_first_call():
    service = Service()
    table = await measure_loads(service, calls=6, concurrency=(1, 3))
    assert (table.index.tolist(), service.calls, service.most) == ([1, 3], 13, 3)


def test_a_load_is_summarized_as_throughput_and_percentiles():
    latencies = [value / 1000 for value in range(1, 102)]  # 1 to 101 ms
    row = _summarize_load(Load(4, latencies, {"Overloaded": 2}, 2.0))
    assert row == {
        "concurrency": 4,
        "calls per second": 50.5,
        "mean": pytest.approx(51.0),
        "p50": pytest.approx(51.0),
        "p95": pytest.approx(96.0),
        "p99": pytest.approx(100.0),
        "failed": 2,
    }


def test_without_an_answer_there_is_no_latency():
    row = _summarize_load(Load(1, [], {"Overloaded": 3}, 1.0))
    assert np.isnan(row["p95"])
    assert row["calls per second"] == 0


@pytest.fixture
def curve():
    latencies = {"p50": [100.0, 110.0, 200.0], "p95": [120.0, 150.0, 300.0], "p99": [130.0, 190.0, 900.0]}
    return pd.DataFrame(
        {"calls per second": [10.0, 18.0, 19.0], **latencies}, index=pd.Index([1, 2, 4], name="concurrency")
    )


def test_the_figure_marks_the_knee(curve):
    assert draw_loads(curve).description.endswith("answered from 10 to 19. Marked at 2: knee: 2.")


def test_the_figure_draws_the_given_percentiles(curve):
    assert "p50 from 100 to 200, p99 from 130 to 900, answered" in draw_loads(curve, ["p50", "p99"]).description
