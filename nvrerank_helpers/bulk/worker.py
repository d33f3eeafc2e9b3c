"""A worker of a bulk job: it reads a block, has its passages scored, and writes the result."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nvrerank_helpers.bulk.blocks import get_block_name
from nvrerank_helpers.bulk.job_folder import FAILED, RANKED, JobFolder
from nvrerank_helpers.bulk.parquet import count_rows, read_rows, write_rows
from nvrerank_helpers.bulk.rows import (
    JobStopped,
    Outcomes,
    QueryGroup,
    group_by_query,
    make_failed_rows,
    make_ranked_rows,
)
from nvrerank_helpers.bulk.services import LoadBalancer, score_passages
from nvrerank_helpers.connector import Endpoint, RankingClient, Truncate, find_model, select_key


@dataclass(frozen=True)
class WorkerSettings:
    """What every worker must know, but no key: workers find theirs in their environment. See `reranking.rerank`."""

    folder: Path
    endpoints: tuple[Endpoint, ...]
    model: str
    truncate: Truncate | None
    top_n: int | None
    in_flight: int
    patience: float


@dataclass(frozen=True)
class BlockResult:
    """What happened to a block.

    Attributes:
        block: Its number.
        pairs: Number of its pairs of query and passage.
        failed: Number of pairs without a logit.
        requests: Number of requests sent, not counting retries.
        tokens: Number of tokens that the services counted.
        began: When work on it started, in seconds since 1970.
        ended: When its result was written, in seconds since 1970.
        pid: Process id of the worker.
        stopped: Why the job must stop; empty if the block is done.
    """

    block: int
    pairs: int = 0
    failed: int = 0
    requests: int = 0
    tokens: int = 0
    began: float = 0.0
    ended: float = 0.0
    pid: int = 0
    stopped: str = ""


class Worker:
    """The callable class that Ray Data starts as an actor; its clients live as long as it does."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings, self._folder = settings, JobFolder(settings.folder)
        clients = [
            RankingClient(
                endpoint,
                settings.model,
                api_key=select_key(endpoint, None),
                max_batch_size=find_model(settings.model).passage_limit,
                max_retries=1,  # after a second failure the service is paused, and another one is asked
            )
            for endpoint in settings.endpoints
        ]
        self._services = LoadBalancer(clients, settings.truncate, settings.patience)
        self._slots = asyncio.Semaphore(settings.in_flight)

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, list[Any]]]:
        """Rerank the blocks whose numbers are under `block`, and yield a `BlockResult` as columns for each."""
        for number in batch["block"]:
            result = await self.rerank_block(int(number))
            yield {name: [value] for name, value in asdict(result).items()}

    async def rerank_block(self, number: int) -> BlockResult:
        """Rerank a block unless its result is there already."""
        began, name, pid = time.time(), get_block_name(number), os.getpid()
        if (self._folder.ranked / name).exists():  # Ray repeats a whole task when its actor was killed
            return BlockResult(number, count_rows(self._folder.todo / name), began=began, ended=began, pid=pid)
        groups = list(group_by_query(read_rows(self._folder.todo / name)))
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(self._score(group)) for group in groups]
        except BaseExceptionGroup as errors:
            stopping = errors.subgroup(JobStopped)
            if not stopping:
                raise
            return BlockResult(number, began=began, pid=pid, stopped=str(stopping.exceptions[0]))
        outcomes, requests, tokens = zip(*(task.result() for task in running), strict=True)
        return BlockResult(
            number,
            pairs=sum(len(group.docnos) for group in groups),
            failed=self._write(name, groups, outcomes),
            requests=sum(requests),
            tokens=sum(tokens),
            began=began,
            ended=time.time(),
            pid=pid,
        )

    async def _score(self, group: QueryGroup) -> tuple[Outcomes, int, int]:
        async with self._slots:
            return await score_passages(self._services.arank, group.query, group.texts)

    def _write(self, name: str, groups: Sequence[QueryGroup], outcomes: Sequence[Outcomes]) -> int:
        """Write failed rows before ranked ones, because the file of ranked rows marks the block as done."""
        pairs = list(zip(groups, outcomes, strict=True))
        failed = [row for group, outcome in pairs for row in make_failed_rows(group, outcome)]
        (self._folder.failed / name).unlink(missing_ok=True)  # of a worker that was killed between the two files
        if failed:
            write_rows(self._folder.failed / name, failed, FAILED)
        ranked = [row for group, outcome in pairs for row in make_ranked_rows(group, outcome, self._settings.top_n)]
        write_rows(self._folder.ranked / name, ranked, RANKED)
        return len(failed)
