"""What a worker does with a block: read it, have its passages scored, write the result."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nvrerank_helpers.bulk.blocks import block_name
from nvrerank_helpers.bulk.errors import JobStopped
from nvrerank_helpers.bulk.job_folder import Folder
from nvrerank_helpers.bulk.parquet import count_rows, read_columns, write_rows
from nvrerank_helpers.bulk.rows import Question, failed_rows, questions, ranked_rows
from nvrerank_helpers.bulk.services import Services, scored
from nvrerank_helpers.connector import Endpoint, RankingClient, RerankError, Truncate, key_for, known

RANKED = {"qid": "string", "docno": "string", "rank": "int32", "logit": "float64"}
FAILED = {"qid": "string", "docno": "string", "error": "string", "reason": "string"}


@dataclass(frozen=True)
class Plan:
    """What every worker must know. It holds no key: workers find theirs in their environment.

    Attributes:
        folder: The job's folder, which every worker can reach.
        endpoints: The services.
        model: Id of the model.
        truncate: What happens to passages that are too long.
        top_n: Passages kept for each query; None keeps all.
        in_flight: Queries that one worker asks about at once.
        patience: Seconds without any answer until the job stops.
    """

    folder: Path
    endpoints: tuple[Endpoint, ...]
    model: str
    truncate: Truncate | None
    top_n: int | None
    in_flight: int
    patience: float


@dataclass(frozen=True)
class Done:
    """What became of a block.

    Attributes:
        block: Its number.
        pairs: Its pairs of query and passage.
        failed: Those that got no logit.
        requests: Requests sent, retries not counted.
        tokens: Tokens that the services counted.
        began: When it was begun, in seconds since 1970.
        ended: When it was written.
        pid: Process id of the worker.
        stopped: Why the job must stop; empty where the block is done.
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

    def __init__(self, plan: Plan) -> None:
        self._plan, self._folder = plan, Folder(plan.folder)
        clients = [
            RankingClient(
                endpoint,
                plan.model,
                api_key=key_for(endpoint, None),
                max_batch_size=known(plan.model).passage_limit,
                max_retries=1,  # a service that fails twice rests, and another one is asked
            )
            for endpoint in plan.endpoints
        ]
        self._services = Services(clients, plan.truncate, plan.patience)
        self._free = asyncio.Semaphore(plan.in_flight)

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, list[Any]]]:
        """Do blocks.

        Args:
            batch: Their numbers, under `block`.

        Yields:
            What became of each.
        """
        for number in batch["block"]:
            done = await self.block(int(number))
            yield {name: [value] for name, value in asdict(done).items()}

    async def block(self, number: int) -> Done:
        """Do a block, unless it is done; say what became of it."""
        began, name = time.time(), block_name(number)
        if (self._folder.ranked / name).exists():  # a task is tried again as a whole when its actor was killed
            return Done(number, count_rows(self._folder.todo / name), began=began, ended=began, pid=os.getpid())
        asked = list(questions(read_columns(self._folder.todo / name)))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._scored(question)) for question in asked]
        except BaseExceptionGroup as errors:
            stopping = errors.subgroup(JobStopped)
            if not stopping:
                raise
            return Done(number, began=began, pid=os.getpid(), stopped=str(stopping.exceptions[0]))
        answers = [task.result() for task in tasks]
        failed = self._write(name, asked, [outcomes for outcomes, _, _ in answers])
        return Done(
            number,
            pairs=sum(len(question.docnos) for question in asked),
            failed=failed,
            requests=sum(requests for _, requests, _ in answers),
            tokens=sum(tokens for _, _, tokens in answers),
            began=began,
            ended=time.time(),
            pid=os.getpid(),
        )

    async def _scored(self, question: Question) -> tuple[list[float | RerankError], int, int]:
        async with self._free:
            return await scored(self._services.arank, question.query, question.texts)

    def _write(self, name: str, asked: Sequence[Question], outcomes: Sequence[list[float | RerankError]]) -> int:
        """Write what failed first: where the file of the ranked is there, the block is done."""
        pairs = list(zip(asked, outcomes, strict=True))
        failed = [row for question, outcome in pairs for row in failed_rows(question, outcome)]
        (self._folder.failed / name).unlink(missing_ok=True)  # of a worker that was killed in between
        if failed:
            write_rows(self._folder.failed / name, failed, FAILED)
        ranked = [row for question, outcome in pairs for row in ranked_rows(question, outcome, self._plan.top_n)]
        write_rows(self._folder.ranked / name, ranked, RANKED)
        return len(failed)
