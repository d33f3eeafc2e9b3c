"""What the lesson on bulk jobs has for itself: a folder, a Ray, a service, and services that play GPUs far away."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from nvrerank_helpers.bulk import JobReport, RunLine, add_options, run_command, use_ray
from nvrerank_helpers.connector import RankingClient, resolve_endpoint
from nvrerank_helpers.extras import extra
from nvrerank_helpers.nim_standin import StandIn, StandInControl

if TYPE_CHECKING:
    import pandas as pd
    from llama_index.core.schema import NodeWithScore

WAY, TURN = 0.08, 0.04  # seconds
LONGEST_START = 120  # seconds that the workers of a job may take until all are there


class BulkLesson:
    """A Ray and services that are the same for every reader.

    Its jobs begin when all their workers are there, so that a short one's rate is not that of the start.

    Args:
        workers: Processes for which Ray makes room.

    Attributes:
        folder: For files; it is removed at the end.
        ray_seconds: How long Ray took to start.
        address: Of a stand-in.
        control: Its faults, and the requests that it got.

    Raises:
        ExtraNotInstalled: The extra `ray` is not installed.
        StandInError: The stand-in cannot start.
    """

    def __init__(self, workers: int) -> None:
        with ExitStack() as opened:
            self.folder = Path(opened.enter_context(TemporaryDirectory()))
            started = time.perf_counter()
            opened.enter_context(use_ray(workers))
            self.ray_seconds = time.perf_counter() - started
            _wait_for_workers()
            self.address = opened.enter_context(StandIn("--no-kept-vectors")).base_url
            self.control = StandInControl(self.address)
            self._opened = opened.pop_all()

    @property
    def requests(self) -> int:
        """How many rankings the stand-in was asked for so far, from all who asked."""
        recorded = self.control.requests()
        return recorded[-1].number if recorded else 0

    def far_services(self, count: int, texts: Sequence[str]) -> list[str]:
        """Start services that play GPUs far away: 80 ms on the way, and 40 ms for each request, sequentially.

        So each of them answers 25 requests a second at most, however many are sent, and one that asks and waits gets 8.

        Args:
            count: How many.
            texts: Passages that they read first, which leaves little to do for this machine.

        Returns:
            Their addresses.
        """
        addresses = [self._opened.enter_context(StandIn()).base_url for _ in range(count)]
        for address in addresses:
            with RankingClient(resolve_endpoint(address, None)) as client:
                client.rank("What do they say?", [{"text": text} for text in dict.fromkeys(texts)])
            control = StandInControl(address)
            self._opened.enter_context(control.faults(f"delay=fixed seconds={WAY}", f"delay=queue seconds={TURN}"))
        return addresses

    def write_trec_files(self, table: "pd.DataFrame") -> None:
        """Write a first stage's table as TREC users have it: `bm25.run`, `queries.parquet` and `passages.parquet`.

        Args:
            table: As `run_table` gives it.
        """
        lines = (RunLine(row.qid, row.docno, row.rank, row.score, "bm25") for row in table.itertuples())
        (self.folder / "bm25.run").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        table[["qid", "query"]].drop_duplicates().to_parquet(self.folder / "queries.parquet")
        table[["docno", "text"]].drop_duplicates().to_parquet(self.folder / "passages.parquet")

    def command(self, line: str) -> JobReport:
        """Do in the folder what `python -m nvrerank_helpers bulk` does with these options, on the Ray that runs.

        Args:
            line: The options as they are typed; the stand-in's address is added.

        Returns:
            What the command prints.
        """
        parser = argparse.ArgumentParser(prog="bulk")
        add_options(parser)
        with chdir(self.folder):
            return run_command(parser.parse_args([*line.split(), "--base-url", self.address]))

    def close(self) -> None:
        """End everything; closing twice does no harm."""
        self._opened.close()


def _wait_for_workers() -> None:
    with extra("ray"):
        import ray.data
    ray.data.DataContext.get_current().wait_for_min_actors_s = LONGEST_START


def build_run_table(queries: Mapping[str, str], search: "Callable[[str], Sequence[NodeWithScore]]") -> "pd.DataFrame":
    """Ask a first stage every query, and put what it finds into the table that `rerank` reads.

    Args:
        queries: Query id to query.
        search: Finds nodes for a query, such as the `retrieve` of a LlamaIndex retriever.

    Returns:
        A row a node: qid, query, docno and text for `rerank`, and the first stage's rank (from 1) and score. Its
        `to_parquet` writes the file.
    """
    with extra("ray"):
        import pandas as pd
    rows = [
        (qid, query, found.node_id, found.text, rank, found.score)
        for qid, query in queries.items()
        for rank, found in enumerate(search(query), 1)
    ]
    return pd.DataFrame(rows, columns=["qid", "query", "docno", "text", "rank", "score"])
