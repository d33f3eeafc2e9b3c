"""Measures the stand-in's relevance model: its speed, what its caches save, and how close it is to float32.

python benchmarks/scoring.py [--json FILE]

Three of the measures compare it with torch and sentence-transformers, with the same weights. They are left out where
sentence-transformers is not installed (extra `cross-encoder`, in a separate environment).
"""

import argparse
import asyncio
import importlib.util
import json
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in the service, before anything imports NumPy
os.environ["NVRERANK_KEPT_VECTORS"] = "0"  # what is not seen before must be encoded

import httpx
import numpy as np
from numpy.typing import NDArray

from nvrerank_helpers.connector import DEFAULT_MODEL
from nvrerank_helpers.minilm import WINDOW, find_weights, load_tokenizer
from nvrerank_helpers.nim_standin import Engine, Job, RelevanceModel, StandIn
from nvrerank_helpers.pydocs import load_passages, load_questions

THREADS = 2
PASSAGES = 50
ROUNDS = 9
CLIENTS, EACH = 8, 10
PAIRS, LISTS, LIST_LENGTH = 1_000, 100, 20


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure and what it must reach."""

    measure: str
    figure: float
    target: float
    at_most: bool = False
    detail: str = ""

    def record(self) -> dict[str, Any]:
        """Return the line with the names of its columns."""
        met = self.figure <= self.target if self.at_most else self.figure >= self.target
        target = f"{'<=' if self.at_most else '>='} {self.target:g}"
        return {
            "measure": self.measure,
            "figure": round(self.figure, 4),
            "target": target,
            "met": met,
            "detail": self.detail,
        }


class Corpus:
    """Passages of the course and questions, in an order that the seed gives; no passage is handed out twice."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.questions = [question.text for question in load_questions()]
        texts = [node.get_content() for node in load_passages()]
        self._fresh = iter(self.chance.sample(texts, len(texts)))

    def fresh(self, count: int) -> list[str]:
        """Return passages that nobody has seen."""
        return [next(self._fresh) for _ in range(count)]

    def two_alike(self, count: int) -> tuple[list[str], list[str]]:
        """Return two lists of fresh passages of about the same lengths, in a random order."""
        texts = sorted(self.fresh(2 * count), key=len)
        lists = [texts[::2], texts[1::2]]
        for one in (*lists, lists):
            self.chance.shuffle(one)
        return lists[0], lists[1]


def seconds(call: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@contextmanager
def run_engine(threads: int) -> Iterator[Callable[[Job], Any]]:
    """Give a function that scores a job on the engine, as the service does."""
    engine = Engine(partial(RelevanceModel.load, threads))
    engine.start()
    engine.loaded.result()
    try:
        yield lambda job: asyncio.run(engine.score(job))
    finally:
        engine.close()


def against_torch(corpus: Corpus, threads: int) -> Row:
    """Time both on the same fresh passages, in turns; only ours compares tokens and multiplies vectors as well."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    theirs = SentenceTransformer(str(find_weights()), device="cpu")
    times: dict[str, list[float]] = {"theirs": [], "ours": []}
    with run_engine(threads) as score:
        for number in range(ROUNDS + 1):
            texts = corpus.fresh(PASSAGES)
            calls = {"theirs": partial(theirs.encode, texts), "ours": partial(score, Job("sort", texts))}
            for name in sorted(calls, reverse=bool(number % 2)):
                taken = seconds(calls[name])
                times[name] += [taken] if number else []  # the first round warms up
    theirs_median, ours_median = median(times["theirs"]), median(times["ours"])
    detail = f"{PASSAGES / theirs_median:.0f} and {PASSAGES / ours_median:.0f} passages/s"
    name = f"cold, times as fast as sentence-transformers, {threads} thread{'s' * (threads > 1)}"
    return Row(name, theirs_median / ours_median, 4, detail=detail)


def warm_against_cold(corpus: Corpus) -> Row:
    """Time the same passages twice."""
    cold, warm = [], []
    with run_engine(THREADS) as score:
        score(Job("warm up", corpus.fresh(5)))
        for _ in range(ROUNDS):
            job = Job(corpus.chance.choice(corpus.questions), corpus.fresh(PASSAGES))
            cold.append(seconds(partial(score, job)))
            warm.append(seconds(partial(score, job)))
    detail = f"{median(cold) * 1000:.0f} and {median(warm) * 1000:.1f} ms for {PASSAGES}"
    return Row("warm, times as fast as cold", median(cold) / median(warm), 20, detail=detail)


async def starts(corpus: Corpus) -> list[Row]:
    """Start the service twice with an empty folder for vectors, and ask each for the same passages first."""
    texts, ready, first = corpus.fresh(PASSAGES), [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NVRERANK_KEPT_VECTORS"] = folder
        for _ in range(2):
            started = time.perf_counter()
            with StandIn(f"--threads={THREADS}") as standin:
                ready.append(time.perf_counter() - started)
                async with httpx.AsyncClient(base_url=standin.base_url, timeout=60) as client:
                    first.append(await rank_at_once(client, [texts]))
        os.environ["NVRERANK_KEPT_VECTORS"] = "0"
    detail = f"{first[0] * 1000:.0f} and {first[1] * 1000:.0f} ms for the first {PASSAGES}, over HTTP"
    return [
        Row("seconds until the service is ready", max(ready), 3, at_most=True),
        Row("second start, times as fast as the first", first[0] / first[1], 3, detail=detail),
    ]


async def many_clients(corpus: Corpus) -> Row:
    """Time clients at once, and one request with as many passages, over HTTP; no passage was seen before."""
    many, one = [], []
    limits = httpx.Limits(max_keepalive_connections=CLIENTS)
    with StandIn(f"--threads={THREADS}") as standin:
        async with httpx.AsyncClient(base_url=standin.base_url, timeout=60, limits=limits) as client:
            for number in range(ROUNDS + 1):
                first, second = corpus.two_alike(CLIENTS * EACH)
                turns = [(many, [first[start::CLIENTS] for start in range(CLIENTS)]), (one, [second])]
                for times, lists in turns[:: 1 if number % 2 else -1]:
                    taken = await rank_at_once(client, lists)
                    if number:  # the first round opens connections
                        times.append(taken)
    detail = f"{median(many) * 1000:.0f} and {median(one) * 1000:.0f} ms, over HTTP"
    name = f"{CLIENTS} clients with {EACH} passages, times as long as one request of {CLIENTS * EACH}"
    return Row(name, median(many) / median(one), 1.5, at_most=True, detail=detail)


async def rank_at_once(client: httpx.AsyncClient, lists: Sequence[Sequence[str]]) -> float:
    """Return how long it takes until all lists are ranked."""
    bodies = [
        {"model": DEFAULT_MODEL, "query": {"text": "how to sort"}, "passages": [{"text": text} for text in texts]}
        for texts in lists
    ]
    started = time.perf_counter()
    for answer in await asyncio.gather(*[client.post("/ranking", json=body) for body in bodies]):
        answer.raise_for_status()
    return time.perf_counter() - started


class Float32:
    """The same late interaction, written down a second time with torch and without any rounding."""

    def __init__(self, weights: NDArray[np.float32]) -> None:
        import torch
        from safetensors.torch import load_file
        from transformers import BertConfig, BertModel

        folder = find_weights()
        self._torch = torch
        self._weights = torch.from_numpy(weights)
        self._tokenizer = load_tokenizer(folder)
        config = BertConfig(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
        self._network = BertModel(config, add_pooling_layer=False).eval()
        # Beside the weights of these layers the file holds a table of positions, and a pooling layer that nobody uses.
        problems = self._network.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        if problems.missing_keys:
            raise SystemExit(f"The reference misses weights: {problems.missing_keys}")

    def score(self, query: str, passages: Sequence[str]) -> Iterator[float]:
        """Return the raw score of each passage."""
        wholes, tokens, ids = self._encode(query)
        weights = self._weights[ids]
        for text in passages:
            passage_wholes, passage_tokens, _ = self._encode(text)
            whole = (passage_wholes @ wholes.T).max()
            best = (passage_tokens @ tokens.T).amax(dim=0)
            yield float(whole + (best * weights).sum() / weights.sum())

    def _encode(self, text: str) -> tuple[Any, Any, list[int]]:
        """Return the unit vectors of the text's windows, those of its tokens, and the tokens."""
        torch, ids = self._torch, self._tokenizer.encode(text, add_special_tokens=False).ids
        states = []
        with torch.inference_mode():
            for window in np.array_split(ids, max(1, -(-len(ids) // WINDOW))):
                whole = torch.tensor([[101, *window.astype(int).tolist(), 102]])
                states.append(self._network(whole).last_hidden_state[0])
            unit = torch.nn.functional.normalize
            wholes = unit(torch.stack([state.mean(dim=0) for state in states]), dim=1)
            return wholes, unit(torch.cat([state[1:-1] for state in states]), dim=1), ids


def agreement(corpus: Corpus) -> list[Row]:
    """Score pairs, and whole lists, with our model and with the reference."""
    import torch
    from scipy.stats import spearmanr

    torch.set_num_threads(1)  # single texts are too short to share out
    ours = RelevanceModel.load(THREADS)
    reference = Float32(ours._token_weights)  # noqa: SLF001
    lists = [(corpus.chance.choice(corpus.questions), corpus.fresh(LIST_LENGTH)) for _ in range(LISTS)]
    scored = [ours.score(Job(question, texts)).raw for question, texts in lists]
    exact = [np.array(list(reference.score(question, texts))) for question, texts in lists]
    first = slice(PAIRS // LIST_LENGTH)
    correlation = spearmanr(np.concatenate(scored[first]), np.concatenate(exact[first])).statistic
    same = np.mean([one.argmax() == other.argmax() for one, other in zip(scored, exact, strict=True)])
    apart = max(float(np.abs(one - other).max()) for one, other in zip(scored, exact, strict=True))
    return [
        Row(f"Spearman with float32 on {PAIRS:,} pairs", float(correlation), 0.99, detail=f"at most {apart:.3f} apart"),
        Row(f"share of equal first places in {LISTS} lists of {LIST_LENGTH}", float(same), 0.92),
    ]


def measure() -> Iterator[Row]:
    """Run the measures in turn."""
    corpus = Corpus()
    yield warm_against_cold(corpus)
    yield from asyncio.run(starts(corpus))
    yield asyncio.run(many_clients(corpus))
    if importlib.util.find_spec("sentence_transformers") is None:
        print("Left out: what needs sentence-transformers.")
        return
    yield against_torch(corpus, THREADS)
    yield against_torch(corpus, 1)  # where other programs keep cores busy, torch's threads wait for each other
    yield from agreement(corpus)


def machine() -> dict[str, Any]:
    """Say where the numbers come from."""
    return {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the numbers into this file")
    options = parser.parse_args()
    records = []
    for record in (row.record() for row in measure()):
        verdict = "" if record["met"] else "   MISSED"
        line = f"{record['measure']:<66} {record['figure']:>8} ({record['target']}) {record['detail']}{verdict}"
        print(line, flush=True)
        records.append(record)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "measures": records}, indent=2) + "\n")
    return int(not all(record["met"] for record in records))


if __name__ == "__main__":
    raise SystemExit(main())
