"""What calls return and how long they take: one call alone, or many at the same time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from nvrerank_helpers.connector import RerankError
from nvrerank_helpers.evaluation.charts import Figure, draw_curves
from nvrerank_helpers.evaluation.tradeoff import find_knee

PERCENTILES = {"p50": 50, "p95": 95, "p99": 99}

Result = TypeVar("Result")


@dataclass(frozen=True)
class Attempt(Generic[Result]):
    """How one call ended: with a result or with an error, and after how many seconds."""

    result: Result | None
    error: Exception | None
    seconds: float

    def describe(self, expected: Result) -> str:
        """Return the name of the error, `right`, or `wrong and silent` for another result than the expected one.

        Example:
            >>> attempt(lambda: 7).describe(8)
            'wrong and silent'
        """
        if self.error:
            return type(self.error).__name__
        return "right" if self.result == expected else "wrong and silent"


def attempt(call: Callable[..., Result], *arguments: Any) -> Attempt[Result]:
    """Call something that may fail, and record its result or its error and how long it took.

    Example:
        >>> type(attempt(lambda: 1 / 0).error).__name__
        'ZeroDivisionError'
    """
    started = perf_counter()
    try:
        result = call(*arguments)
    except Exception as error:  # noqa: BLE001 - the error is what is asked for
        return Attempt(None, error, perf_counter() - started)
    return Attempt(result, None, perf_counter() - started)


@dataclass(frozen=True)
class Load:
    """What concurrent callers of a service saw.

    Attributes:
        concurrency: How many calls were in progress at any time.
        latencies: Seconds of each call that was answered.
        failed: Name of an error to the number of calls that raised it.
        seconds: Wall time of all calls together.
    """

    concurrency: int
    latencies: list[float]
    failed: Mapping[str, int]
    seconds: float


async def run_load(ask: Callable[[], Awaitable[object]], *, calls: int, concurrency: int) -> Load:
    """Keep a service busy with concurrent callers, each of which asks again as soon as it has its answer.

    Such a closed loop shows what a service can do. It doesn't show how long a queue grows when callers arrive at a
    fixed rate. Make one call first, so that opening the connection isn't measured.

    Args:
        ask: Makes one call. A `RerankError` counts as failed; any other error ends the measurement.
        calls: How many calls to make in all, at least 1.
        concurrency: How many callers there are, at least 1.

    Raises:
        ValueError: A number is below 1.
        ExceptionGroup: What calls raised, except for `RerankError`.
    """
    if min(calls, concurrency) < 1:
        raise ValueError(f"calls and concurrency must be at least 1, not {calls} and {concurrency}.")
    latencies: list[float] = []
    failed: Counter[str] = Counter()
    started = perf_counter()
    async with asyncio.TaskGroup() as callers:
        turns = iter(range(calls))  # shared: whoever is free takes the next
        for _ in range(concurrency):
            callers.create_task(_keep_calling(ask, turns, latencies, failed))
    return Load(concurrency, latencies, failed, perf_counter() - started)


async def _keep_calling(
    ask: Callable[[], Awaitable[object]], turns: Iterator[int], latencies: list[float], failed: Counter[str]
) -> None:
    for _ in turns:
        started = perf_counter()
        try:
            await ask()
        except RerankError as error:
            failed[type(error).__name__] += 1
        else:
            latencies.append(perf_counter() - started)


async def measure_loads(
    ask: Callable[[], Awaitable[object]], *, calls: int = 80, concurrency: Iterable[int] = (1, 2, 4, 8, 16)
) -> pd.DataFrame:
    """Measure several loads sequentially with `run_load`, after a first call that isn't counted.

    Args:
        ask: Makes one call.
        calls: How many calls to make at each load, at least 1.
        concurrency: The numbers of callers, each at least 1.

    Returns:
        A row for each `concurrency`: `calls per second` (answered ones); `mean`, `p50`, `p95` and `p99` of the latency
        in milliseconds, interpolated linearly (nan if no call was answered); and `failed` calls. A percentile needs
        enough calls: p99 of fewer than a hundred is close to the slowest one.

    Raises:
        ValueError: A number is below 1.
        ExceptionGroup: What calls raised, except for `RerankError`.
    """
    await run_load(ask, calls=1, concurrency=1)
    loads = [await run_load(ask, calls=calls, concurrency=callers) for callers in concurrency]
    return pd.DataFrame([_summarize_load(load) for load in loads]).set_index("concurrency")


def _summarize_load(load: Load) -> dict[str, float]:
    milliseconds = np.array(load.latencies or [np.nan]) * 1000
    percentiles = {name: float(np.percentile(milliseconds, rank)) for name, rank in PERCENTILES.items()}
    return {
        "concurrency": load.concurrency,
        "calls per second": len(load.latencies) / load.seconds,
        "mean": float(milliseconds.mean()),
        **percentiles,
        "failed": sum(load.failed.values()),
    }


def draw_loads(table: pd.DataFrame, percentiles: Sequence[str] = ("p50", "p95")) -> Figure:
    """Draw latency and answers per second against the number of callers, with the knee marked.

    Args:
        table: From `measure_loads`, at least three rows.
        percentiles: Which latencies to draw.

    Raises:
        ValueError: There are fewer than three rows, or the concurrency doesn't ascend.
    """
    rate = table["calls per second"]
    best = find_knee(rate)
    panels = {"milliseconds": table[[*percentiles]], "calls per second": rate.to_frame("answered")}
    return draw_curves(panels, best, f"knee: {best:g}")
