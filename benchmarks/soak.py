"""Mixed load on the stand-in, with faults and with clients that behave badly: does every answer stay right?

python benchmarks/soak.py [--minutes 30] [--seed 0]

Every request asks for its own fault in a header, or for none, so it is known what must come back: the logits that the
model gives in this process, the fault, or a refusal. Ends with an error code when an answer is anything else, when
there was a 500, or when the memory of the service grew by more than a tenth.
"""

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import httpx
import psutil

from nvrerank_helpers.connector import DEFAULT_MODEL, build_catalog_path
from nvrerank_helpers.nim_standin import Job, RelevanceModel, StandIn
from nvrerank_helpers.pydocs import load_passages, load_questions

CLIENTS = 16
QUERIES, PASSAGES = 20, 400
MOST_GROWTH = 0.10
WARM_UP, LEAST_WARM_UP = 0.1, 60.0  # share of the time, and seconds, before memory is measured: caches fill
FAULT_HEADER = "X-Stand-In-Fault"
FAULTED = 0.2  # share of the rankings
FAULTS = (
    *(f"status={status}" for status in (429, 502, 503)),
    *(f"answer={how}" for how in ("unsorted", "missing", "duplicate", "out_of_range", "nan", "html", "broken")),
    *("reset=before", "reset=middle", "delay=exponential seconds=0.05"),
)
HOSTILE = (
    b"",
    b"{",
    b"[" * 100_000,
    b'{"model": "\\ud800"}',
    b"\xff\xfe{\x00}\x00",
    b'{"model": ' + b"9" * 10_000 + b"}",
    b'{"model": "m", "query": {"text": "' + b"a" * 15_000_000 + b'"}, "passages": [{"text": "x"}]}',
)


class Soak:
    """The load: what is asked, what must come back, and what came."""

    def __init__(self, client: httpx.AsyncClient, seed: int) -> None:
        self.client = client
        self.chance = random.Random(seed)
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[str] = []
        texts = [node.get_content() for node in load_passages()]
        self.texts = self.chance.sample(texts, PASSAGES)
        self.queries = [question.text for question in load_questions()[:QUERIES]]
        model = RelevanceModel.load()
        self.logits = {
            query: dict(zip(self.texts, model.score(Job(query, self.texts)).logits.tolist(), strict=True))
            for query in self.queries
        }
        model.close()

    def count(self, kind: str, problem: str | None) -> None:
        self.outcomes[kind if problem is None else f"WRONG {kind}"] += 1
        if problem is not None and len(self.wrong) < 20:
            self.wrong.append(f"{kind}: {problem}")

    def asked(self) -> tuple[str, list[str], dict[str, object]]:
        query = self.chance.choice(self.queries)
        texts = self.chance.sample(self.texts, self.chance.randint(1, 40))
        return (
            query,
            texts,
            {
                "model": DEFAULT_MODEL,
                "query": {"text": query},
                "passages": [{"text": text} for text in texts],
                "truncate": "END",
            },
        )

    async def ranking(self) -> None:
        query, texts, body = self.asked()
        fault = self.chance.choice(FAULTS) if self.chance.random() < FAULTED else ""
        path = self.chance.choice(("/v1/ranking", build_catalog_path(DEFAULT_MODEL)))
        headers = {FAULT_HEADER: fault} if fault else {}
        try:
            answer = await self.client.post(path, json=body, headers=headers)
        except httpx.TransportError as error:
            self.count("a reset that was asked for", None if fault.startswith("reset") else repr(error))
            return
        if fault.startswith(("status", "answer")) and answer.headers.get(FAULT_HEADER) == fault:
            self.count("a fault that was asked for", None)
            return
        # An answer of one passage cannot be unsorted: it comes as it is.
        right = answer.status_code == 200 and {
            texts[row["index"]]: row["logit"] for row in answer.json()["rankings"]
        } == {text: self.logits[query][text] for text in texts}
        self.count(
            "a right ranking", None if right else f"{fault or 'no fault'}: {answer.status_code} {answer.text[:200]}"
        )

    async def hanging_up(self) -> None:
        _, _, body = self.asked()
        with contextlib.suppress(httpx.TimeoutException):
            await self.client.post("/v1/ranking", json=body, timeout=self.chance.uniform(0.001, 0.05))
        self.count("a client that hung up", None)

    async def hostile(self) -> None:
        content = self.chance.choice(HOSTILE)
        path = self.chance.choice(("/v1/ranking", "/v1/embeddings", "/v1/chat/completions"))
        answer = await self.client.post(path, content=content, headers={"content-type": "application/json"})
        self.count("a refusal", None if 400 <= answer.status_code < 500 else f"{answer.status_code} {content[:20]!r}")

    async def openai(self) -> None:
        text = self.chance.choice(self.texts)
        path, body = self.chance.choice(
            (
                ("/v1/embeddings", {"model": "stand-in/all-minilm-l6-v2", "input": text, "truncate": "END"}),
                (
                    "/v1/chat/completions",
                    {"model": "stand-in/extractive-qa", "messages": [{"role": "user", "content": text[:2000]}]},
                ),
            )
        )
        answer = await self.client.post(path, json=body)
        self.count("an embedding or a chat answer", None if answer.status_code == 200 else answer.text[:200])

    async def status(self) -> None:
        path = self.chance.choice(("/v1/health/live", "/v1/health/ready", "/v1/models", "/v1/metrics", "/v1/metadata"))
        answer = await self.client.get(path)
        self.count("a status", None if answer.status_code == 200 else f"{path} {answer.status_code}")

    async def one_client(self, until: float) -> None:
        kinds: tuple[Callable[[], Awaitable[None]], ...] = (
            self.ranking,
            self.hanging_up,
            self.hostile,
            self.openai,
            self.status,
        )
        while time.monotonic() < until:
            (kind,) = self.chance.choices(kinds, weights=(80, 5, 3, 6, 6))
            try:
                await kind()
            except Exception as error:  # noqa: BLE001 - a soak that stops at the first surprise tells little
                self.count(kind.__name__, repr(error))


async def memory(process: psutil.Process, start: float, until: float) -> list[float]:
    """Sample the service's memory in MB from the end of the warm-up on."""
    await asyncio.sleep(min(max((until - start) * WARM_UP, LEAST_WARM_UP), (until - start) / 2))
    samples = []
    while time.monotonic() < until:
        samples.append(process.memory_info().rss / 1e6)
        await asyncio.sleep((until - start) / 100)
    return samples


async def soak(standin: StandIn, minutes: float, seed: int) -> int:
    async with httpx.AsyncClient(base_url=standin.base_url.removesuffix("/v1"), timeout=60, trust_env=False) as client:
        load = Soak(client, seed)
        start = time.monotonic()
        until = start + 60 * minutes
        samples, *_ = await asyncio.gather(
            memory(psutil.Process(standin.pid), start, until), *(load.one_client(until) for _ in range(CLIENTS))
        )
        metrics = (await client.get("/v1/metrics")).text
    tenth = max(1, len(samples) // 10)
    before, after = statistics.median(samples[:tenth]), statistics.median(samples[-tenth:])
    for kind, number in sorted(load.outcomes.items()):
        print(f"{number:9,}  {kind}")
    print(f"memory after warm-up {before:.0f} MB, at the end {after:.0f} MB ({after / before - 1:+.1%})")
    unplanned = [
        line for line in metrics.splitlines() if line.startswith("nim_requests_total") and 'status="500"' in line
    ]
    print("\n".join([*load.wrong, *unplanned]))
    return 1 if load.wrong or unplanned or after > before * (1 + MOST_GROWTH) else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with StandIn("--cache-mb=16") as standin:  # a cache that fills during the warm-up
        return asyncio.run(soak(standin, asked.minutes, asked.seed))


if __name__ == "__main__":
    sys.exit(main())
