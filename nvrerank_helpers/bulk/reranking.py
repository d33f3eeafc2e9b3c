"""`rerank`: a whole run of queries and passages through one service or several, on Ray."""

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from anyio.from_thread import start_blocking_portal
from tqdm.auto import tqdm

from nvrerank_helpers.bulk.blocks import cut
from nvrerank_helpers.bulk.errors import JobStopped
from nvrerank_helpers.bulk.inputs import Input
from nvrerank_helpers.bulk.job_folder import (
    Folder,
    Settings,
    check_same,
    fingerprint,
    locked,
    manifest,
    read_manifest,
    write_manifest,
)
from nvrerank_helpers.bulk.models import chosen_model
from nvrerank_helpers.bulk.parquet import count_rows
from nvrerank_helpers.bulk.ray_cluster import running_ray
from nvrerank_helpers.bulk.services import GO_ON
from nvrerank_helpers.bulk.worker import Done, Plan, Worker
from nvrerank_helpers.connector import ADDRESS_VARIABLE, Truncate, endpoint
from nvrerank_helpers.extras import extra

MOST_TASKS = 1000  # of a job; one with more blocks gives each task several


@dataclass(frozen=True)
class Report:
    """What a bulk job brought.

    Attributes:
        out: Its folder; `out / "ranked"` has the results, `out / "failed"` what has none.
        model: Id of the model that ranked.
        pairs: Pairs of query and passage in the input.
        failed: Those that got no logit.
        blocks: Blocks of the input.
        kept: Blocks that were finished before.
        seconds: Wall time of this call.
        done: What became of the other blocks, in the order in which they ended.
    """

    out: Path
    model: str
    pairs: int
    failed: int
    blocks: int
    kept: int
    seconds: float
    done: list[Done] = field(repr=False)

    @property
    def working(self) -> float:
        """Seconds from the first block's begin to the last one's end, without the start of Ray."""
        return max((one.ended for one in self.done), default=0.0) - min((one.began for one in self.done), default=0.0)

    @property
    def requests(self) -> int:
        """Requests that this call sent, retries not counted."""
        return sum(one.requests for one in self.done)

    @property
    def rate(self) -> float:
        """Pairs a second while the workers worked."""
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
    on_block: Callable[[Done], None] | None = None,
) -> Report:
    """Rerank every query of a run; called again after an interruption, go on where it stopped.

    The run is checked as a whole and cut into blocks of whole queries before anything is asked. Workers take blocks,
    ask the services, and write a file a block; a file that is there is never made again. A key is found by each worker
    in its environment and nowhere else.

    Args:
        run: Parquet with the columns qid, query, docno and text, the rows of a query together; or a folder of such
            files; or a TREC run file, with the next two.
        out: Folder for the results: `ranked` (qid, docno, rank, logit), and `failed` (qid, docno, error, reason) for
            passages without a logit.
        queries: For a run file: `qid<TAB>query` lines, or Parquet with these columns.
        passages: For a run file: `docno<TAB>text` lines, or Parquet with these columns.
        base_urls: Addresses of services that serve the same model; all are used at once, and one that is gone is left
            out until it is back. None takes `NVIDIA_BASE_URL`, and without that the API catalog.
        model: Id of the model; None takes the first that the services list, or the catalog's current one.
        top_n: Passages to keep for each query; None keeps all.
        truncate: `END` cuts passages that are too long, `NONE` makes them failures, None leaves it to the service.
        workers: Processes that ask, as actors of Ray. 0 asks from this process alone, without Ray: what takes less
            time than Ray's start (10 s and more on two cores) is done sooner so.
        in_flight: Queries that each of them asks about at once.
        block_pairs: A block ends with the query that brings it to this many pairs.
        patience: Seconds without any answer until the job stops.
        progress: Whether to show a bar.
        on_block: Called with each block that is done.

    Returns:
        What was done.

    Raises:
        BadRun: The input is not right; nothing was asked.
        OtherJob: The folder holds another job, or another process works in it.
        JobStopped: No service answers any more, or one refuses everything; call again to go on.
        ExtraNotInstalled: The extra `ray` is not installed.

    Example:
        >>> report = rerank("in.parquet", "out", base_urls=["http://nim-1:8000", "http://nim-2:8000"])  # doctest: +SKIP
        >>> pandas.read_parquet(report.out / "ranked")  # doctest: +SKIP
    """
    started = time.monotonic()
    _check_counts(0, workers=workers)
    _check_counts(1, top_n=top_n, in_flight=in_flight, block_pairs=block_pairs)
    source = Input(Path(run), Path(queries) if queries else None, Path(passages) if passages else None)
    source.files()  # before a folder is made
    addresses: list[str | None] = [*base_urls] or [os.environ.get(ADDRESS_VARIABLE) or None]
    with locked(Path(out)) as folder:
        settings, sizes = _begun(folder, source, Settings(model or "", truncate, top_n, block_pairs), addresses)
        endpoints = tuple(endpoint(address, settings.model) for address in addresses)
        plan = Plan(folder.path.resolve(), endpoints, settings.model, truncate, top_n, in_flight, patience)
        pending = folder.pending(len(sizes))
        done = []
        bar = tqdm(total=sum(sizes), unit="pair", desc="reranked", disable=not progress)
        on_ray = workers and pending
        with bar, closing(_on_ray(plan, pending, workers) if on_ray else _here(plan, pending)) as blocks:
            bar.update(sum(sizes) - sum(sizes[number] for number in pending))
            for one in blocks:
                if one.stopped:
                    raise JobStopped(one.stopped)
                done.append(one)
                bar.update(one.pairs)
                if on_block:
                    on_block(one)
        folder.end()
        failed = sum(map(count_rows, folder.failed.glob("block-*.parquet")))
    kept, seconds = len(sizes) - len(pending), time.monotonic() - started
    return Report(folder.path, settings.model, sum(sizes), failed, len(sizes), kept, seconds, done)


def _check_counts(least: int, **counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}: give at least {least}.")


def _begun(
    folder: Folder, source: Input, settings: Settings, addresses: Sequence[str | None]
) -> tuple[Settings, list[int]]:
    """Return the settings and the sizes of the blocks: of the job that goes on, or of one that begins."""
    files = fingerprint(source.files())
    begun = read_manifest(folder)
    if begun:
        settings = replace(settings, model=settings.model or begun["settings"]["model"])
        check_same(begun, files, settings)
        return settings, list(begun["blocks"])
    folder.begin()
    sizes = cut(source.batches(folder.todo / "texts.sqlite"), folder.todo, settings.block_pairs)
    settings = replace(settings, model=chosen_model(settings.model, addresses))
    write_manifest(folder, manifest(files, settings, sizes))
    return settings, sizes


def _here(plan: Plan, pending: Sequence[int]) -> Generator[Done]:
    """Have the blocks done by one worker in a thread of this process."""
    with start_blocking_portal() as portal:
        worker = Worker(plan)
        for number in pending:
            yield portal.call(worker.block, number)


def _on_ray(plan: Plan, pending: Sequence[int], workers: int) -> Generator[Done]:
    """Have the blocks done by actors, and give what became of each as it ends."""
    with running_ray(workers):
        with extra("ray"):
            import ray
        ray.data.DataContext.get_current().enable_progress_bars = False  # ours counts pairs
        numbers = [{"block": number} for number in pending]
        blocks = ray.data.from_items(numbers, override_num_blocks=min(len(numbers), MOST_TASKS))
        actors = ray.data.ActorPoolStrategy(size=min(workers, len(numbers)), max_concurrent_calls_per_actor=2)
        done = blocks.map_batches(Worker, fn_constructor_args=(plan,), batch_size=1, compute=actors, num_cpus=1)
        try:
            yield from (Done(**row) for row in done.iter_rows())
        except ray.exceptions.RayError as error:
            raise JobStopped(f"A worker failed: {error}\n{GO_ON}") from error
