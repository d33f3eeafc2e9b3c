"""Ours, LlamaIndex's and LangChain's class of the same name, and bare httpx, side by side against one local service.

python benchmarks/clients.py [--runs N] [--json FILE] [--figure FILE]
"""

import argparse
import asyncio
import inspect
import json
import os
import platform
import random
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import altair as alt
import httpx
import pandas as pd
from langchain_core.documents import Document
from langchain_nvidia_ai_endpoints import NVIDIARerank as LangChainRerank
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.nvidia_rerank import NVIDIARerank as LlamaIndexRerank
from local_server import MODEL, NumberService, make_texts

from nvrerank_helpers import NVIDIARerank
from nvrerank_helpers.evaluation import SAME, UP, Figure

QUERY = "which way should I go?"
UPSTREAM = "LlamaIndex 0.7.0"
LANGCHAIN = "LangChain 1.5.0"
DELAY = 0.05  # seconds that a service with a model on a graphics card takes
UPSTREAM_BATCH = 64
QUERIES = 100

Call = Callable[[], Any]


@dataclass(frozen=True)
class Target:
    """What a client must reach: a ratio that is at most, or at least, a number."""

    most: float | None = None
    least: float | None = None

    def met(self, ratio: float) -> bool:
        return ratio <= self.most if self.most else ratio >= (self.least or 0)

    def __str__(self) -> str:
        return f"<= {self.most:g}" if self.most else f">= {self.least:g}"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    measure: str
    client: str
    milliseconds: float
    against: str
    ratio: float
    target: Target | None = None

    def record(self) -> dict[str, Any]:
        """Return the line with the names of its columns."""
        numbers = {"median ms": round(self.milliseconds, 2), "ratio": round(self.ratio, 2), "against": self.against}
        line = {"measure": self.measure, "client": self.client, **numbers}
        return line | ({"target": str(self.target), "met": self.target.met(self.ratio)} if self.target else {})


async def ended(call: Call) -> Any:
    """Call a sync or an async client."""
    result = call()
    return await result if inspect.isawaitable(result) else result


def text_of(result: Any) -> str:
    """Return the text of a result, whoever gave it."""
    return result.page_content if isinstance(result, Document) else result.text


async def medians(calls: Mapping[str, Call], rounds: int, right: Sequence[str] | None) -> dict[str, float]:
    """Time the calls in turns, in another order each round, after a round that only checks the answers.

    Args:
        calls: Client to call.
        rounds: How often.
        right: The texts that every client must answer with; None where the answer is not of that kind.

    Returns:
        Client to median milliseconds.
    """
    for name, call in calls.items():
        answer = await ended(call)
        if right and [text_of(result) for result in answer] != right:
            raise SystemExit(f"{name} answered something wrong: it cannot be measured.")
    times: dict[str, list[float]] = {name: [] for name in calls}
    chance, names = random.Random(0), list(calls)
    for _ in range(rounds):
        chance.shuffle(names)  # with a fixed order, each would always find the caches as the same one left them
        for name in names:
            started = time.perf_counter()
            await ended(calls[name])
            times[name].append(time.perf_counter() - started)
    return {name: median(taken) * 1000 for name, taken in times.items()}


class Clients:
    """The clients of one service, and the same passages for each of them."""

    def __init__(self, base_url: str, count: int) -> None:
        self.base_url = base_url
        self.passages = make_texts(count)
        self.nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in self.passages]
        self.documents = [Document(page_content=text) for text in self.passages]
        self.right = sorted(self.passages, key=lambda text: -float(text.rsplit(" ", 1)[1]))[:5]
        self._opened: list[NVIDIARerank] = []

    def ours(self, **settings: Any) -> NVIDIARerank:
        self._opened.append(NVIDIARerank(model=MODEL, base_url=self.base_url, **settings))
        return self._opened[-1]

    def upstream(self) -> LlamaIndexRerank:
        return LlamaIndexRerank(model=MODEL, base_url=self.base_url, api_key="none", max_batch_size=UPSTREAM_BATCH)

    def langchain(self) -> LangChainRerank:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it does not know the model
            return LangChainRerank(model=MODEL, base_url=self.base_url, api_key="none", max_batch_size=UPSTREAM_BATCH)

    def rerank(self, client: Any) -> Call:
        if isinstance(client, LangChainRerank):
            return partial(client.compress_documents, self.documents, QUERY)
        return partial(client.postprocess_nodes, self.nodes, query_str=QUERY)

    def arerank(self, client: Any) -> Callable[[], Awaitable[Any]]:
        if isinstance(client, LangChainRerank):
            return partial(client.acompress_documents, self.documents, QUERY)
        return partial(client.apostprocess_nodes, self.nodes, query_str=QUERY)

    @property
    def payload(self) -> dict[str, Any]:
        passages = [{"text": text} for text in self.passages]
        return {"model": MODEL, "query": {"text": QUERY}, "passages": passages, "truncate": "END"}

    async def aclose(self) -> None:
        for opened in self._opened:
            await opened.aclose()


def best_of(response: httpx.Response) -> list[dict[str, Any]]:
    """Do with an answer what cannot be left out: decode it and sort it."""
    return sorted(response.json()["rankings"], key=lambda ranking: -ranking["logit"])


async def one_request() -> list[Row]:
    """40 passages and a service that answers at once: what a client costs over bare httpx."""
    with NumberService() as server, httpx.Client() as client:
        async with httpx.AsyncClient() as aclient:
            clients = Clients(server.base_url, 40)
            url, payload = f"{server.base_url}/ranking", clients.payload

            async def afloor() -> list[dict[str, Any]]:
                return best_of(await aclient.post(url, json=payload))

            floors = {"httpx": lambda: best_of(client.post(url, json=payload)), "httpx async": afloor}
            contenders = {"ours": clients.ours(), UPSTREAM: clients.upstream(), LANGCHAIN: clients.langchain()}
            calls = {name: clients.rerank(one) for name, one in contenders.items()}
            calls |= {f"{name} async": clients.arerank(one) for name, one in contenders.items()}
            await medians(calls, 5, clients.right)
            taken = await medians(floors | calls, 300, None)
            await clients.aclose()
    measure = "40 passages, 0 ms"
    rows = []
    for name, milliseconds in taken.items():
        floor = "httpx async" if name.endswith("async") else "httpx"
        target = Target(most=1.20) if name == "ours" else None
        rows.append(Row(measure, name, milliseconds, floor, milliseconds / taken[floor], target))
    rival = f"{LANGCHAIN} async"
    ratio = taken["ours async"] / taken[rival]
    return [*rows, Row(measure, "ours async", taken["ours async"], rival, ratio, Target(most=1.05))]


async def many_batches() -> list[Row]:
    """2,000 passages and a service that takes 50 ms: what requests in flight at the same time are worth."""
    with NumberService(delay=DELAY) as server:
        clients = Clients(server.base_url, 2000)
        small, default = clients.ours(max_batch_size=UPSTREAM_BATCH), clients.ours()
        contenders = {UPSTREAM: clients.upstream(), LANGCHAIN: clients.langchain()}
        contenders |= {"ours, batches of 64": small, "ours, default batches": default}
        calls = {name: clients.rerank(one) for name, one in contenders.items()}
        calls |= {f"{name} async": clients.arerank(one) for name, one in contenders.items()}
        taken = await medians(calls, 3, clients.right)
        await clients.aclose()
    rows = []
    for name, milliseconds in taken.items():
        against = f"{UPSTREAM} async" if name.endswith("async") else UPSTREAM
        least = 6.5 if "batches of 64" in name else 20
        target = Target(least=least) if name.startswith("ours") else None
        rows.append(Row("2,000 passages, 50 ms", name, milliseconds, against, taken[against] / milliseconds, target))
    return rows


async def many_queries() -> list[Row]:
    """Many queries at once and a service that takes 50 ms; each client has a service that counts for it alone."""

    async def all_at_once(arerank: Callable[[], Awaitable[Any]]) -> Any:
        return (await asyncio.gather(*[arerank() for _ in range(QUERIES)]))[-1]

    with NumberService(delay=DELAY) as first, NumberService(delay=DELAY) as second, NumberService(delay=DELAY) as third:
        servers = {UPSTREAM: first, LANGCHAIN: second, "ours": third}
        clients = {name: Clients(server.base_url, 40) for name, server in servers.items()}
        contenders = {
            UPSTREAM: clients[UPSTREAM].upstream(),
            LANGCHAIN: clients[LANGCHAIN].langchain(),
            "ours": clients["ours"].ours(),
        }
        calls = {name: partial(all_at_once, clients[name].arerank(one)) for name, one in contenders.items()}
        taken = await medians(calls, 7, clients["ours"].right)
        await clients["ours"].aclose()
        counts = third.stats()
    measure = f"{QUERIES} queries of 40 at once, 50 ms"
    rows = [
        Row(measure, f"{name} async", taken[name], UPSTREAM, taken[UPSTREAM] / taken[name], target)
        for name, target in ((UPSTREAM, None), (LANGCHAIN, None), ("ours", Target(least=6)))
    ]
    ratio = taken["ours"] / taken[LANGCHAIN]
    rows.append(Row(measure, "ours async", taken["ours"], f"{LANGCHAIN} async", ratio, Target(most=1.05)))
    opened = f"ours: {counts['connections']} connections for {counts['requests']} requests"
    share = counts["connections"] / QUERIES
    return [*rows, Row(measure, opened, float("nan"), "requests in flight", share, Target(most=1))]


def figure(table: pd.DataFrame) -> Figure:
    """Draw the medians, one panel a measure, ours in the strong colour."""
    drawn = table.dropna(subset="median ms").assign(ours=lambda rows: rows["client"].str.startswith("ours"))
    panels = [_panel(rows, str(measure)) for measure, rows in drawn.groupby("measure", sort=False)]
    chart = (
        alt.vconcat(*panels)
        .configure(background="white")
        .configure_view(stroke=None)
        .configure_axis(grid=False, labelLimit=300)
    )
    said = "; ".join(f"{row['measure']}: {row['client']} {row['median ms']:g} ms" for _, row in drawn.iterrows())
    return Figure(chart, f"Median milliseconds of each client. {said}.")


def _panel(rows: pd.DataFrame, title: str) -> Any:
    base = alt.Chart(rows[["client", "median ms", "ours"]], title=title).encode(
        x=alt.X("median ms:Q", title="median ms", scale=alt.Scale(domainMin=0)),
        y=alt.Y("client:N", sort=None, title=None),
    )
    colour = alt.when(alt.datum.ours).then(alt.value(UP)).otherwise(alt.value(SAME))
    label = base.mark_text(align="left", dx=5).encode(text=alt.Text("median ms:Q", format=",.4~r"))
    return alt.layer(base.mark_bar(height=16).encode(color=colour), label).properties(width=420, height=alt.Step(24))


def machine() -> dict[str, Any]:
    """Say where the numbers come from."""
    packages = ["httpx", "llama-index-core", "llama-index-postprocessor-nvidia-rerank", "langchain-nvidia-ai-endpoints"]
    python = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
    return python | {package: version(package) for package in packages}


async def measure(runs: int) -> pd.DataFrame:
    """Run the measures in turn, several times, and return the median of each row."""
    found = [row for _ in range(runs) for row in [*await one_request(), *await many_batches(), *await many_queries()]]
    rows = []
    for key in dict.fromkeys((row.measure, row.client.partition(":")[0], row.against) for row in found):
        same = [row for row in found if (row.measure, row.client.partition(":")[0], row.against) == key]
        milliseconds, ratio = median(row.milliseconds for row in same), median(row.ratio for row in same)
        rows.append(replace(same[-1], milliseconds=milliseconds, ratio=ratio).record())
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, help="how often to measure everything; medians are printed")
    parser.add_argument("--json", type=Path, help="write the numbers into this file")
    parser.add_argument("--figure", type=Path, help="draw them into this file, as SVG")
    options = parser.parse_args()
    table = asyncio.run(measure(options.runs))
    print(table.astype(object).fillna("").to_string(index=False))
    if options.json:
        records = json.loads(table.to_json(orient="records"))
        options.json.write_text(json.dumps({"machine": machine(), "measures": records}, indent=2) + "\n")
    if options.figure:
        options.figure.write_text(figure(table).svg)


if __name__ == "__main__":
    main()
