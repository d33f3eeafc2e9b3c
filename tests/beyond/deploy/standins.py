"""Two stand-ins that can be killed and come back, and what they should answer."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

import httpx
from llama_index.core.schema import NodeWithScore, TextNode

from nvrerank_helpers import NVIDIARerank
from nvrerank_helpers.connector import DEFAULT_MODEL
from nvrerank_helpers.nim_standin import StandIn

SLOW = "--fault=delay=fixed seconds=0.04"  # so that requests are in flight whenever a service is killed
QUERIES = ["How do I sort a list?", "How is a file read line by line?", "What bakes a loaf of bread?"]
PASSAGES = [
    "Open a file and iterate over it: each step gives a line.",
    "list.sort() sorts a list in place; sorted() returns a new one.",
    "Sort a dictionary by its values with sorted() and a key function.",
    "random.shuffle() puts the items of a list in any order.",
    "Knead the dough, let it rest, and bake it for forty minutes.",
]

Ranking = list[tuple[int, float]]
Ask = Callable[[int, int], int]


class Pair:
    """Two stand-ins, by number, each of which comes back at the port where it was."""

    def __init__(self, *options: str) -> None:
        self._options = options
        self._both = [self._start(), self._start()]

    def _start(self, port: int = 0) -> StandIn:
        return StandIn(f"--port={port}", "--threads=1", *self._options, timeout=180)

    @property
    def addresses(self) -> list[str]:
        return [one.base_url for one in self._both]

    @property
    def hosts(self) -> list[str]:
        return [httpx.URL(address).netloc.decode() for address in self.addresses]

    def kill(self, number: int) -> None:
        """End it at once, with everything that it was doing."""
        os.kill(self._both[number].pid, signal.SIGKILL)

    def stop(self, number: int) -> None:
        """End it as a restart does: what is in flight is finished."""
        self._both[number].close()

    def start(self, number: int) -> None:
        """Start it again at its port, and wait until it can rank."""
        port = httpx.URL(self.addresses[number]).port
        self._both[number].close()
        self._both[number] = self._start(port or 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._both:
            one.close()


def body(query: str) -> dict[str, object]:
    return {"model": DEFAULT_MODEL, "query": {"text": query}, "passages": [{"text": text} for text in PASSAGES]}


def ranking(answer: httpx.Response) -> Ranking:
    return [(entry["index"], entry["logit"]) for entry in answer.raise_for_status().json()["rankings"]]


def right_answers(base_url: str) -> dict[str, Ranking]:
    """Ask a service itself, with nothing between."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        return {query: ranking(client.post(f"{base_url}/ranking", json=body(query))) for query in QUERIES}


@contextmanager
def bare(base_url: str, right: dict[str, Ranking], clients: int) -> Iterator[Ask]:
    """Ask with httpx alone, which tries nothing twice; an answer may break off after its head."""

    def ask(client: int, count: int) -> int:
        query = QUERIES[(client + count) % len(QUERIES)]
        with each[client].stream("POST", f"{base_url}/ranking", json=body(query)) as answer:
            try:
                answer.read()
            except httpx.RemoteProtocolError:
                return 1
        assert ranking(answer) == right[query]
        return 0

    with ExitStack() as stack:
        each = [stack.enter_context(httpx.Client(trust_env=False, timeout=60)) for _ in range(clients)]
        yield ask


@contextmanager
def connector(base_url: str, right: dict[str, Ranking], clients: int) -> Iterator[Ask]:
    """Ask with the connector of the course, which sends a request again when its answer breaks off."""
    nodes = [NodeWithScore(node=TextNode(id_=str(number), text=text)) for number, text in enumerate(PASSAGES)]

    def ask(client: int, count: int) -> int:
        query = QUERIES[(client + count) % len(QUERIES)]
        best = each[client].postprocess_nodes(nodes, query_str=query)
        assert [(int(found.node.node_id), found.score) for found in best] == right[query]
        return each[client].last_call.retries

    with ExitStack() as stack:
        given = {"base_url": base_url, "model": DEFAULT_MODEL, "top_n": None}
        each = [stack.enter_context(NVIDIARerank(**given)) for _ in range(clients)]
        yield ask
