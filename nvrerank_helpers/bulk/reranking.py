"""Reranking a whole run of queries and passages with one service or several, on Ray."""

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from anyio.from_thread import start_blocking_portal
from tqdm.auto import tqdm

from nvrerank_helpers.bulk.blocks import JobInput, write_blocks
from nvrerank_helpers.bulk.job_folder import JobFolder, JobSettings, Manifest, hash_files, lock_folder
from nvrerank_helpers.bulk.parquet import count_rows
from nvrerank_helpers.bulk.ray_cluster import use_ray
from nvrerank_helpers.bulk.rows import JobStopped
from nvrerank_helpers.bulk.services import HOW_TO_RESUME, choose_model
from nvrerank_helpers.bulk.worker import BlockResult, Worker, WorkerSettings
from nvrerank_helpers.connector import ADDRESS_VARIABLE, Truncate, resolve_endpoint
from nvrerank_helpers.extras import extra

MAX_TASKS = 1000  # of Ray; with more blocks, a task has several


@dataclass(frozen=True)
class JobReport:
    """What a bulk job did.

    Attributes:
        out: Its folder; `out / "ranked"` has the results, `out / "failed"` the passages without a logit.
        model: Id of the model that ranked.
        pairs: Number of pairs of query and passage in the input.
        failed: Number of pairs without a logit.
        blocks: Number of blocks of the input.
        kept: Number of blocks that earlier calls had finished.
        seconds: Wall time of this call.
        done: The results of the other blocks, in the order in which they ended.
    """

    out: Path
    model: str
    pairs: int
    failed: int
    blocks: int
    kept: int
    seconds: float
    done: list[BlockResult] = field(repr=False)

    @property
    def working(self) -> float:
        """Seconds from the start of the first block to the end of the last one, without the start of Ray."""
        return max((one.ended for one in self.done), default=0.0) - min((one.began for one in self.done), default=0.0)

    @property
    def requests(self) -> int:
        """Number of requests that this call sent, not counting retries."""
        return sum(one.requests for one in self.done)

    @property
    def rate(self) -> float:
        """Pairs per second while the workers worked."""
        return sum(one.pairs for one in self.done) / self.working if self.done else 0.0

    def __str__(self) -> str:
        kept = f", {self.kept:,} of them kept from before" if self.kept else ""
        failed = f"; {self.failed:,} without a logit, see {self.out / 'failed'}" if self.failed else ""
        return (
            f"{self.pairs:,} pairs in {self.blocks:,} blocks{kept}: {self.seconds:.1f} s, of which "
            f"{self.working:.1f} s of work at {self.rate:,.0f} pairs a second{failed}. Results: {self.out / 'ranked'}"
        )


def rerank(
    run: str | Path,
    out: str | Path,
    *,
    queries: str | Path | None = None,
    passages: str | Path | None = None,
    base_urls: Sequence[str] = (),
    model: str | None = None,
    top_n: int | None = None,
    truncate: Truncate | None = "END",
    workers: int = 4,
    in_flight: int = 16,
    block_pairs: int = 2000,
    patience: float = 120.0,
    progress: bool = True,
    on_block: Callable[[BlockResult], None] | None = None,
) -> JobReport:
    """Rerank every query of a run. After an interruption, the same call resumes the job.

    The whole run is checked and split into blocks of whole queries before any request is sent. Workers take blocks,
    ask the services, and write one file per block; a finished block is never done again. Each worker reads the API
    key from its environment.

    Args:
        run: Parquet with the columns qid, query, docno and text, where the rows of a query are consecutive; or a
            folder of such files; or a TREC run file together with `queries` and `passages`.
        out: Folder for the results: `ranked` (qid, docno, rank, logit), and `failed` (qid, docno, error, reason) for
            passages without a logit.
        queries: For a run file: `qid<TAB>query` lines, or Parquet with these columns.
        passages: For a run file: `docno<TAB>text` lines, or Parquet with these columns.
        base_urls: Addresses of services with the same model. All are used at once, and one that fails is left out
            until it works again. Without any, `NVIDIA_BASE_URL` counts, and without that the API catalog.
        model: None takes the first model that the services list, or the catalog's current one.
        top_n: Passages to keep for each query; None keeps all.
        truncate: `END` cuts passages that are too long, `NONE` makes them fail, None leaves it to the service.
        workers: Processes that send requests, as actors of Ray. 0 sends them from this process without Ray, which is
            faster for a job that takes less time than the start of Ray (10 s and more on two cores).
        in_flight: Queries that each worker asks about at once.
        block_pairs: A block ends with the query that brings it to this many pairs.
        patience: Seconds without any answer until the job stops.
        progress: Whether to show a progress bar.
        on_block: Called with the result of each block that is done.

    Raises:
        BadRun: The input cannot be reranked; no request was sent.
        JobMismatch: The folder belongs to another job, or another process is at work in it.
        JobStopped: No service answers any more, or one refuses everything.
        ExtraNotInstalled: The extra `ray` is not installed.
    """
    started = time.monotonic()
    _check_counts(0, workers=workers)
    _check_counts(1, top_n=top_n, in_flight=in_flight, block_pairs=block_pairs)
    source = JobInput(Path(run), Path(queries) if queries else None, Path(passages) if passages else None)
    source.list_files()  # checks them before a folder is made
    addresses: list[str | None] = [*base_urls] or [os.environ.get(ADDRESS_VARIABLE) or None]
    with lock_folder(Path(out)) as folder:
        manifest = _start_or_resume(folder, source, JobSettings(model or "", truncate, top_n, block_pairs), addresses)
        model, sizes = manifest.settings.model, manifest.blocks
        endpoints = tuple(resolve_endpoint(address, model) for address in addresses)
        settings = WorkerSettings(folder.path.resolve(), endpoints, model, truncate, top_n, in_flight, patience)
        pending = folder.list_pending(len(sizes))
        done = []
        results = _run_on_ray(settings, pending, workers) if workers and pending else _run_locally(settings, pending)
        bar = tqdm(total=sum(sizes), unit="pair", desc="reranked", disable=not progress)
        with bar, closing(results):
            bar.update(sum(sizes) - sum(sizes[number] for number in pending))
            for result in results:
                if result.stopped:
                    raise JobStopped(result.stopped)
                done.append(result)
                bar.update(result.pairs)
                if on_block:
                    on_block(result)
        folder.clean_up()
        failed = sum(map(count_rows, folder.failed.glob("block-*.parquet")))
    kept, seconds = len(sizes) - len(pending), time.monotonic() - started
    return JobReport(folder.path, model, sum(sizes), failed, len(sizes), kept, seconds, done)


def _check_counts(least: int, **counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}: give at least {least}.")


def _start_or_resume(
    folder: JobFolder, source: JobInput, settings: JobSettings, addresses: Sequence[str | None]
) -> Manifest:
    files = hash_files(source.list_files())
    if manifest := folder.read_manifest():
        manifest.check_same(files, replace(settings, model=settings.model or manifest.settings.model))
        return manifest
    folder.prepare()
    sizes = write_blocks(source.read(folder.todo / "texts.sqlite"), folder.todo, settings.block_pairs)
    settings = replace(settings, model=choose_model(settings.model, addresses))
    manifest = Manifest(files, settings, sizes)
    folder.write_manifest(manifest)
    return manifest


def _run_locally(settings: WorkerSettings, pending: Sequence[int]) -> Generator[BlockResult]:
    with start_blocking_portal() as portal:  # an event loop in a thread, because a notebook has one in this thread
        worker = Worker(settings)
        for number in pending:
            yield portal.call(worker.rerank_block, number)


def _run_on_ray(settings: WorkerSettings, pending: Sequence[int], workers: int) -> Generator[BlockResult]:
    with use_ray(workers):
        with extra("ray"):
            import ray
        ray.data.DataContext.get_current().enable_progress_bars = False  # ours counts pairs
        numbers = [{"block": number} for number in pending]
        blocks = ray.data.from_items(numbers, override_num_blocks=min(len(numbers), MAX_TASKS))
        actors = ray.data.ActorPoolStrategy(size=min(workers, len(numbers)), max_concurrent_calls_per_actor=2)
        rows = blocks.map_batches(Worker, fn_constructor_args=(settings,), batch_size=1, compute=actors, num_cpus=1)
        try:
            yield from (BlockResult(**row) for row in rows.iter_rows())
        except ray.exceptions.RayError as error:
            raise JobStopped(f"A worker failed: {error}\n{HOW_TO_RESUME}") from error
