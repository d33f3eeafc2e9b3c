"""10,000 calls: what memory they leave behind, and whether each one ends right while the service misbehaves.

python benchmarks/endurance.py [--calls N]
"""

import argparse
import asyncio
import gc
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
from llama_index.core.schema import NodeWithScore, TextNode
from local_server import MODEL, NumberService, make_texts

from nvrerank_helpers import NVIDIARerank
from nvrerank_helpers.connector import RerankError

CALLS = 10_000
MOST_GROWTH = 5.0  # MB
FAULTS = 0.05  # share of the requests, for each of 429, 503, reset and slow
TIMEOUT, SLOW = 0.5, 0.8  # seconds: a slow answer comes after the client has given it up
THREADS, TASKS = 32, 100  # calls at once
PATIENCE = 120.0  # seconds after which a call that has not ended counts as lost
MAX_BATCH_SIZE, MOST_PASSAGES = 10, 20  # so that a call is one request or two

NEVER = ("WRONG", "UNTYPED", "LOST")  # outcomes that must not happen; the others are `right` and errors of ours

NODES = [NodeWithScore(node=TextNode(text=text)) for text in make_texts(2000)]


def logit_of(node: NodeWithScore) -> float:
    return float(node.text.rsplit(" ", 1)[1])


class Call:
    """One call with its own passages, and what became of it."""

    def __init__(self, number: int) -> None:
        chance = random.Random(number)
        self.nodes = chance.sample(NODES, chance.randint(1, MOST_PASSAGES))
        self.query = f"question {number}"

    def outcome(self, results: list[NodeWithScore]) -> str:
        """Compare with what is right: every passage, best first, each with its own logit."""
        expected = sorted(((logit_of(node), node.node_id) for node in self.nodes), reverse=True)
        return "right" if [(result.score, result.node_id) for result in results] == expected else "WRONG"

    def end(self, reranker: NVIDIARerank) -> str:
        """Make the call, and return its outcome."""
        try:
            return self.outcome(reranker.postprocess_nodes(self.nodes, query_str=self.query))
        except RerankError as error:
            return type(error).__name__
        except Exception as error:  # noqa: BLE001 - what must not happen is counted
            return f"UNTYPED {type(error).__name__}"

    async def aend(self, reranker: NVIDIARerank) -> str:
        """Make the call, and return its outcome; the async twin of `end`."""
        try:
            async with asyncio.timeout(PATIENCE):
                return self.outcome(await reranker.apostprocess_nodes(self.nodes, query_str=self.query))
        except RerankError as error:
            return type(error).__name__
        except TimeoutError:
            return "LOST"
        except Exception as error:  # noqa: BLE001 - what must not happen is counted
            return f"UNTYPED {type(error).__name__}"


def reranker_of(server: NumberService) -> NVIDIARerank:
    return NVIDIARerank(
        model=MODEL, base_url=server.base_url, top_n=None, max_batch_size=MAX_BATCH_SIZE, timeout=TIMEOUT
    )


def held() -> float:
    """Return the megabytes that this process holds."""
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


async def growth(calls: int, end: Callable[[Call], Awaitable[str]]) -> float:
    """Return by how many megabytes the process grew after the first tenth of the calls."""
    before = 0.0
    for number in range(calls):
        if number == calls // 10:
            before = held()
        outcome = await end(Call(number))
        if outcome != "right":
            raise SystemExit(f"Call {number} went wrong although the service was well: {outcome}")
    return held() - before


async def growths(calls: int) -> dict[str, float]:
    """Measure the memory that calls leave behind, sequentially, sync and async."""
    with NumberService() as server, reranker_of(server) as reranker:

        async def end(call: Call) -> str:
            return call.end(reranker)

        grown = {"sync": await growth(calls, end), "async": await growth(calls, lambda call: call.aend(reranker))}
        await reranker.aclose()
    return grown


def in_threads(server: NumberService, calls: int) -> Counter[str]:
    """Make the calls from several threads that share one reranker."""
    with reranker_of(server) as reranker, ThreadPoolExecutor(THREADS) as pool:
        return Counter(pool.map(lambda number: Call(number).end(reranker), range(calls)))


async def in_tasks(server: NumberService, calls: int) -> Counter[str]:
    """Make the calls from many tasks that share one reranker."""
    outcomes: Counter[str] = Counter()

    async def work(numbers: Iterator[int], reranker: NVIDIARerank) -> None:
        for number in numbers:
            outcomes[await Call(number).aend(reranker)] += 1

    async with reranker_of(server) as reranker:
        numbers = iter(range(calls))
        await asyncio.gather(*[work(numbers, reranker) for _ in range(TASKS)])
    return outcomes


def survived(name: str, calls: int, make: Callable[[NumberService], Counter[str]]) -> bool:
    """Make the calls against a service that misbehaves, print what became of them, and return whether all is well."""
    with NumberService(faults=FAULTS, slow=SLOW) as server:
        before, started = held(), time.perf_counter()
        outcomes = make(server)
        seconds, grown = time.perf_counter() - started, held() - before
        requests = server.stats()
    outcomes["LOST"] += calls - outcomes.total()
    print(f"{calls} calls while the service misbehaves, {name}: {seconds:.0f} s, {grown:+.1f} MB")
    print(f"  became: {_listed(outcomes)}\n  service: {_listed(requests)}")
    return not any(count for outcome, count in outcomes.items() if outcome.startswith(NEVER))


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=CALLS, help=f"how many (default {CALLS})")
    calls: int = parser.parse_args().calls
    grown = asyncio.run(growths(calls))
    for name, megabytes in grown.items():
        print(
            f"memory from call {calls // 10} to {calls}, {name}: {megabytes:+.1f} MB (target: {MOST_GROWTH:g} at most)"
        )
    ended = [
        survived("sync", calls, lambda server: in_threads(server, calls)),
        survived("async", calls, lambda server: asyncio.run(in_tasks(server, calls))),
    ]
    sys.exit(not all(ended) or max(grown.values()) > MOST_GROWTH)


if __name__ == "__main__":
    main()
