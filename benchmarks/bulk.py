"""Compare a bulk job with a loop over LlamaIndex's class, its memory for ten times the pairs, two services with one.

build/envs/beyond/bin/python benchmarks/bulk.py [--json FILE]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import psutil
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.nvidia_rerank import NVIDIARerank as LlamaIndexRerank
from local_server import MODEL, NumberService, make_texts

from nvrerank_helpers import bulk
from nvrerank_helpers.bulk import use_ray

DELAY = 0.05  # seconds that a service with a model on a GPU takes
PASSAGES = 40  # of each query
WORKERS = 4
FEW, MANY = 500, 5000  # queries: 20,000 and 200,000 pairs
BOUND = {"delay": 0.1, "at_once": 4}  # a service that answers at most 40 requests per second
SMALL = 400  # pairs per block, so that no worker is busy with its last block long after the others
POLL_INTERVAL = 0.05  # seconds between two measurements of a process's memory


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    measure: str
    what: str
    value: float
    unit: str
    ratio: float | None = None
    target: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Cost:
    """The cost of a job: total seconds, seconds of work, and the peak memory of its driver in MiB."""

    seconds: float
    working: float
    memory: float


def write_run(file: Path, queries: int) -> None:
    """Write a run whose passages end with their logits."""
    passages = make_texts(FEW * PASSAGES)
    rows = range(queries * PASSAGES)
    columns = {
        "qid": [f"q{row // PASSAGES}" for row in rows],
        "query": [f"which way is number {row // PASSAGES}?" for row in rows],
        "docno": [f"d{row}" for row in rows],
        "text": [passages[row % len(passages)] for row in rows],
    }
    pd.DataFrame(columns).to_parquet(file)


def run_loop(file: Path, base_url: str) -> float:
    """Rerank a run with LlamaIndex's class, a query at a time, and return the seconds it took."""
    client = LlamaIndexRerank(model=MODEL, base_url=base_url, api_key="none", max_batch_size=64, top_n=PASSAGES)
    run = pd.read_parquet(file)
    started = time.perf_counter()
    for _, rows in run.groupby("qid", sort=False):
        nodes = [NodeWithScore(node=TextNode(text=text, id_=docno)) for docno, text in rows[["docno", "text"]].values]
        client.postprocess_nodes(nodes, query_str=rows["query"].iloc[0])
    return time.perf_counter() - started


def check_result(file: Path, out: Path) -> None:
    """Compare the result of a job with the numbers in its passages."""
    run = pd.read_parquet(file).set_index(["qid", "docno"])["text"].str.rsplit(n=1).str[1].astype(float)
    ranked = pd.read_parquet(out / "ranked")
    if not ranked.set_index(["qid", "docno"])["logit"].sort_index().equals(run.sort_index().rename("logit")):
        raise SystemExit("The job's result is wrong: it cannot be measured.")
    if not ranked.groupby("qid", sort=False)["logit"].is_monotonic_decreasing.all():
        raise SystemExit("The job's ranks are wrong: it cannot be measured.")


def measure_job(file: Path, base_url: str, workers: int) -> Cost:
    """Run a job in its own process, which also starts Ray if there are workers."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--job", str(file), folder, base_url, str(workers)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        watched, most = psutil.Process(child.pid), 0
        while child.poll() is None:
            most = max(most, watched.memory_info().rss)
            time.sleep(POLL_INTERVAL)
        said = child.communicate()[0]
        if child.returncode:
            raise SystemExit("The job failed.")
        check_result(file, Path(folder))
    return Cost(**json.loads(said), memory=most / 2**20)


def run_job(file: str, out: str, base_url: str, workers: str) -> None:
    """Run a job and print its times, as the process of `measure_job`."""
    started = time.time()
    report = bulk.rerank(file, out, base_urls=[base_url], model=MODEL, workers=int(workers), progress=False)
    print(json.dumps({"seconds": time.time() - started, "working": report.working}))


def compare_with_loop(folder: Path) -> list[Row]:
    """Rerank 20,000 pairs with a service that takes 50 ms, then 200,000 pairs for the memory."""
    few, many = folder / "few.parquet", folder / "many.parquet"
    write_run(few, FEW)
    write_run(many, MANY)
    with NumberService(delay=DELAY) as server:
        loop, alone = run_loop(few, server.base_url), measure_job(few, server.base_url, 0)
        small, large = (measure_job(file, server.base_url, WORKERS) for file in (few, many))
    measure, more = f"{FEW * PASSAGES:,} pairs, {DELAY * 1000:.0f} ms", f"{MANY * PASSAGES:,} pairs"
    ratio, memory = loop / small.working, large.memory / small.memory
    return [
        Row(measure, "loop over LlamaIndex 0.7.0", loop, "s"),
        Row(measure, "bulk, workers=0, in total", alone.seconds, "s", loop / alone.seconds),
        Row(measure, f"bulk, {WORKERS} workers at work", small.working, "s", ratio, ">= 8", ratio >= 8),
        Row(measure, "bulk, with the start of Ray", small.seconds, "s", loop / small.seconds),
        Row(more, "loop over LlamaIndex 0.7.0, by the pair", loop * MANY / FEW, "s"),
        Row(more, f"bulk, {WORKERS} workers at work", large.working, "s", loop * MANY / FEW / large.working),
        Row(more, "bulk, with the start of Ray", large.seconds, "s", loop * MANY / FEW / large.seconds),
        Row(measure, "peak memory of the driver", small.memory, "MiB"),
        Row(more, "peak memory of the driver", large.memory, "MiB", memory, "<= 1.1", memory <= 1.1),
    ]


def compare_with_one_service(folder: Path) -> list[Row]:
    """Rerank 20,000 pairs with one and with two services whose rate is limited."""
    write_run(folder / "few.parquet", FEW)
    seconds = {}
    with use_ray(WORKERS), NumberService(**BOUND) as first, NumberService(**BOUND) as second:
        for base_urls in ([first.base_url], [first.base_url, second.base_url]):
            out = folder / f"out-{len(base_urls)}"
            settings = {"model": MODEL, "workers": WORKERS, "block_pairs": SMALL, "progress": False}
            report = bulk.rerank(folder / "few.parquet", out, base_urls=base_urls, **settings)
            check_result(folder / "few.parquet", out)
            seconds[len(base_urls)] = report.working
    measure, ratio = "services that answer 40 requests per second", seconds[1] / seconds[2]
    return [
        Row(measure, "one service", seconds[1], "s"),
        Row(measure, "two services", seconds[2], "s", ratio, ">= 1.8", ratio >= 1.8),
    ]


def make_table(rows: Sequence[Row]) -> pd.DataFrame:
    """Round the figures to meaningful digits."""
    shown = pd.DataFrame([asdict(row) for row in rows])
    return shown.assign(value=shown["value"].round(1), ratio=shown["ratio"].astype(float).round(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the numbers into this file")
    parser.add_argument("--job", nargs=4, metavar=("RUN", "OUT", "ADDRESS", "WORKERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        run_job(*options.job)
        return
    with tempfile.TemporaryDirectory() as folder:
        measured = make_table([*compare_with_loop(Path(folder)), *compare_with_one_service(Path(folder))])
    print(measured.astype(object).where(measured.notna(), "").to_string(index=False))
    if options.json:
        options.json.write_text(measured.to_json(orient="records", indent=2) + "\n")


if __name__ == "__main__":
    main()
