"""What calls bring and how long they take: one by itself, or many at the same time."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd

from nvrerank_helpers.connector import RerankError
from nvrerank_helpers.evaluation.charts import Figure, curves
from nvrerank_helpers.evaluation.tradeoff import knee

PERCENTILES = {"p50": 50, "p95": 95, "p99": 99}

Result = TypeVar("Result")


@dataclass(frozen=True)
class Attempt(Generic[Result]):
    """How one call ended.

    Attributes:
        result: What it returned; None where it raised.
        error: What it raised, if anything.
        seconds: Wall time of the call.
    """

    result: Result | None
    error: Exception | None
    seconds: float

    def ended(self, expected: Result) -> str:
        """Say how it ended, in a word or two.

        Args:
            expected: The right result.

        Returns:
            The name of the error, `right`, or `wrong and silent`: a result that is not the expected one.

        Example:
            >>> attempt(lambda: 7).ended(8)
            'wrong and silent'
        """
        if self.error:
            return type(self.error).__name__
        return "right" if self.result == expected else "wrong and silent"


def attempt(call: Callable[..., Result], *arguments: Any) -> Attempt[Result]:
    """Call something that may fail, and keep how it ended.

    Args:
        call: What to call.
        *arguments: What to call it with.

    Returns:
        Its result or its error, and how long it took.

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
    """What a number of callers saw who kept a service busy together.

    Attributes:
        concurrency: How many calls were under way at any time.
        latencies: Seconds of each call that was answered.
        failed: Name of an error to how many calls it ended.
        seconds: Wall time of all calls together.
    """

    concurrency: int
    latencies: list[float]
    failed: Mapping[str, int]
    seconds: float


async def under_load(ask: Callable[[], Awaitable[object]], *, calls: int, concurrency: int) -> Load:
    """Keep a service busy with so many callers, each of whom asks again as soon as an answer is there.

    Such a closed loop shows what a service can do. It says nothing of how long a queue grows when callers come whether
    or not the others have been served: for that, send requests at a fixed rate.

    Args:
        ask: Makes one call. A `RerankError` counts as failed; anything else is a mistake and ends the measurement.
        calls: How many calls to make in all, at least 1.
        concurrency: How many callers there are, at least 1.

    Returns:
        What they saw. Make a call beforehand, so that opening the first connection is not part of it.

    Raises:
        ValueError: A number is below 1.
        ExceptionGroup: What calls raised that is no `RerankError`.

    Example:
        >>> load = await under_load(lambda: reranker.apostprocess_nodes(nodes, query_str="…"), calls=50, concurrency=4)
        ... # doctest: +SKIP
    """
    if min(calls, concurrency) < 1:
        raise ValueError(f"calls and concurrency must be at least 1, not {calls} and {concurrency}.")
    latencies: list[float] = []
    failed: Counter[str] = Counter()
    started = perf_counter()
    async with asyncio.TaskGroup() as callers:
        turns = iter(range(calls))  # shared: whoever is free takes the next
        for _ in range(concurrency):
            callers.create_task(_caller(ask, turns, latencies, failed))
    return Load(concurrency, latencies, failed, perf_counter() - started)


async def _caller(
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


async def load_curve(
    ask: Callable[[], Awaitable[object]], *, calls: int = 80, concurrency: Iterable[int] = (1, 2, 4, 8, 16)
) -> pd.DataFrame:
    """Measure several loads, one after the other; see `under_load` and `load_table`.

    A first call, which opens the connection, is not counted.

    Args:
        ask: Makes one call.
        calls: How many calls to make at each load, at least 1.
        concurrency: The numbers of callers, each at least 1.

    Returns:
        The table, a row a load.

    Raises:
        ValueError: A number is below 1.
        ExceptionGroup: What calls raised that is no `RerankError`.
    """
    await under_load(ask, calls=1, concurrency=1)
    return load_table([await under_load(ask, calls=calls, concurrency=callers) for callers in concurrency])


def load_table(loads: Iterable[Load]) -> pd.DataFrame:
    """Put measurements side by side.

    Args:
        loads: One measurement a row.

    Returns:
        Indexed by `concurrency`: `calls per second` (answered ones), `mean`, `p50`, `p95` and `p99` of the latency in
        milliseconds (between two calls linearly interpolated; nan where no call was answered), and `failed` calls. A
        percentile needs calls: p99 of fewer than a hundred is nearly the slowest of them.

    Example:
        >>> table = load_table([Load(2, [0.1, 0.3], {}, 0.2)])
        >>> table.loc[2, ["calls per second", "p50"]].tolist()
        [10.0, 200.0]
    """
    return pd.DataFrame([_row(load) for load in loads]).set_index("concurrency")


def _row(load: Load) -> dict[str, float]:
    milliseconds = np.array(load.latencies or [np.nan]) * 1000
    percentiles = {name: float(np.percentile(milliseconds, rank)) for name, rank in PERCENTILES.items()}
    return {
        "concurrency": load.concurrency,
        "calls per second": len(load.latencies) / load.seconds,
        "mean": float(milliseconds.mean()),
        **percentiles,
        "failed": sum(load.failed.values()),
    }


def throughput(table: pd.DataFrame, percentiles: Sequence[str] = ("p50", "p95")) -> Figure:
    """Draw how latency and answers per second depend on the number of callers, with the knee marked.

    Args:
        table: As `load_curve` gives it, three rows at least.
        percentiles: Which of its latencies to draw.

    Returns:
        Two panels, one below the other: the percentiles in milliseconds, and calls per second.

    Raises:
        ValueError: There are fewer than three rows, or the concurrency does not ascend.

    Example:
        >>> throughput(await load_curve(ask, calls=80, concurrency=(1, 2, 4, 8)))  # doctest: +SKIP
    """
    rate = table["calls per second"]
    best = knee(rate)
    panels = {"milliseconds": table[[*percentiles]], "calls per second": rate.to_frame("answered")}
    return curves(panels, best, f"knee: {best:g}")
