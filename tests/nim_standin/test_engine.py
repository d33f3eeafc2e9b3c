"""The engine: it cuts requests into chunks, is fair to small ones, and leaves nobody waiting when it stops."""

import asyncio
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nvrerank_helpers.nim_standin.scoring import engine as module
from nvrerank_helpers.nim_standin.scoring import registry
from nvrerank_helpers.nim_standin.scoring.cross_encoder import CrossEncoderError
from nvrerank_helpers.nim_standin.scoring.engine import TEXT_OVERHEAD, Engine, EngineStoppedError, QueueFullError
from nvrerank_helpers.nim_standin.scoring.jobs import (
    EmbeddingsUnavailableError,
    InputTooLongError,
    Job,
    ScoreError,
    Scores,
)
from nvrerank_helpers.nim_standin.scoring.late_interaction import RelevanceModel

SOON = 60  # seconds; far more than anything here takes
LONG = "x" * 1000  # as long as a chunk


class Recorder:
    """A scorer that scores a passage with its length, notes its chunks, and holds some of them until told to go."""

    chunk_characters = 1000

    def __init__(self, *held: int, threads: int = 1) -> None:
        self.threads = threads
        self.held = held
        self.chunks: list[tuple[str, int]] = []
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.closed = threading.Event()
        self.error: BaseException | None = None

    def score(self, job: Job) -> Scores:
        self.chunks.append((job.query, len(job.passages)))
        if len(self.chunks) in self.held:
            self.entered.release()
            self.go.acquire(timeout=SOON)
        if self.error:
            raise self.error
        if job.query == "too long":
            raise InputTooLongError(9, 8)
        raw = [np.nan if text == "nan" else len(text) for text in job.passages]
        return Scores(np.array(raw, dtype=np.float32), np.array([len(text) for text in job.passages]))

    def embed(self, texts: Sequence[str], max_tokens: int) -> tuple[np.ndarray, int]:
        if max_tokens == 0:
            raise EmbeddingsUnavailableError("no vectors")
        self.chunks.append(("embed", len(texts)))
        return np.array([[len(text)] for text in texts], dtype=np.float32), len(texts)

    def close(self) -> None:
        self.closed.set()


@asynccontextmanager
async def run_engine(load: Callable[[], Any], **options: Any) -> AsyncIterator[Engine]:
    engine = Engine(load, **options)
    engine.start()
    try:
        async with asyncio.timeout(SOON):  # what hangs fails
            yield engine
    finally:
        engine.close()


@asynccontextmanager
async def hold(recorder: Recorder) -> AsyncIterator[tuple[Engine, asyncio.Task[Any]]]:
    """An engine whose scorer is held in its first chunk, the only one of its request."""
    async with run_engine(lambda: recorder) as engine:
        first = asyncio.create_task(engine.score(Job("first", ["a"])))
        await asyncio.to_thread(recorder.entered.acquire, timeout=SOON)
        yield engine, first
        recorder.go.release()


async def queue(engine: Engine, *jobs: Job) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(engine.score(job)) for job in jobs]
    await asyncio.sleep(0)  # each runs until it waits
    assert engine.waiting == len(jobs)
    return tasks


async def test_a_job_gets_the_scores_of_its_passages_in_order() -> None:
    recorder = Recorder(threads=3)
    passages = ["x" * length for length in (900, 1, 500, 700, 30, 800, 2)]
    async with run_engine(lambda: recorder) as engine:
        result = await engine.score(Job("q", passages))
    assert result.scores.raw.tolist() == [900, 1, 500, 700, 30, 800, 2]
    assert result.scores.tokens.tolist() == [900, 1, 500, 700, 30, 800, 2]
    assert len(recorder.chunks) == 3


async def test_a_job_without_passages_gets_no_scores() -> None:
    async with run_engine(Recorder) as engine:
        assert len((await engine.score(Job("q", []))).scores.raw) == 0


async def test_a_chunk_is_bounded_by_its_characters_and_has_at_least_one_text() -> None:
    recorder = Recorder()
    short = "x" * (250 - TEXT_OVERHEAD)
    async with run_engine(lambda: recorder) as engine:
        await engine.score(Job("q", [*[short] * 6, LONG * 5, LONG]))
    assert recorder.chunks == [("q", 4), ("q", 3), ("q", 1)]


async def test_the_threads_work_on_one_job_together() -> None:
    recorder = Recorder(1, 2, threads=2)
    async with run_engine(lambda: recorder) as engine:
        task = asyncio.create_task(engine.score(Job("q", [LONG] * 2)))
        for _ in range(2):
            assert await asyncio.to_thread(recorder.entered.acquire, timeout=SOON)
        recorder.go.release(2)
        assert (await task).scores.raw.tolist() == [1000, 1000]


async def test_open_jobs_take_turns() -> None:
    recorder = Recorder(1)
    order: list[str] = []
    async with hold(recorder) as (engine, _):
        huge, small = await queue(engine, Job("huge", [LONG] * 4), Job("small", ["a"]))
        for name, task in (("huge", huge), ("small", small)):
            task.add_done_callback(lambda _, name=name: order.append(name))
        recorder.go.release()
        assert (await huge).scores.raw.tolist() == [1000] * 4
    assert recorder.chunks[1:] == [("huge", 1), ("small", 1), ("huge", 1), ("huge", 1), ("huge", 1)]
    assert order == ["small", "huge"]


async def test_a_cancelled_job_leaves_the_queue() -> None:
    recorder = Recorder(1)
    async with hold(recorder) as (engine, first):
        [task] = await queue(engine, Job("cancelled", ["a"]))
        task.cancel()
        await asyncio.wait([task])
        assert engine.waiting == 0
        recorder.go.release()
        await first
        await engine.score(Job("last", ["a"]))
    assert recorder.chunks == [("first", 1), ("last", 1)]


async def test_a_job_that_is_cancelled_in_work_costs_no_further_chunk() -> None:
    recorder = Recorder(1, 2)
    async with hold(recorder) as (engine, _):
        [huge] = await queue(engine, Job("huge", [LONG] * 50))
        recorder.go.release()
        await asyncio.to_thread(recorder.entered.acquire, timeout=SOON)
        huge.cancel()
        await asyncio.wait([huge])
        recorder.go.release()
        await engine.score(Job("last", ["a"]))
    assert recorder.chunks == [("first", 1), ("huge", 1), ("last", 1)]


async def test_a_score_that_is_no_number_fails_its_job_alone() -> None:
    async with run_engine(Recorder) as engine:
        with pytest.raises(ScoreError, match=r"no number \(NaN\) for passage 2"):
            await engine.score(Job("bad", [LONG, "a", "nan"]))
        assert (await engine.score(Job("good", ["a"]))).scores.raw.tolist() == [1]


async def test_a_job_that_is_too_long_fails_alone_and_at_once() -> None:
    recorder = Recorder()
    async with run_engine(lambda: recorder) as engine:
        results = await asyncio.gather(
            engine.score(Job("too long", [LONG] * 9)), engine.score(Job("q", ["a"])), return_exceptions=True
        )
    assert isinstance(results[0], InputTooLongError)
    assert results[1].scores.raw.tolist() == [1]
    assert recorder.chunks.count(("too long", 1)) == 1


async def test_the_engine_forgets_the_texts_of_a_job_when_it_is_over() -> None:
    forgotten = threading.Event()

    async def score(engine: Engine) -> None:
        job = Job("q", ["a"])
        weakref.finalize(job, forgotten.set)
        await engine.score(job)

    async with run_engine(Recorder) as engine:
        await score(engine)
        assert await asyncio.to_thread(forgotten.wait, SOON)


async def test_a_full_queue_refuses_at_once() -> None:
    async with hold(Recorder(1)) as (engine, _):
        await queue(engine, Job("b", ["a"]), Job("c", ["a"]))
        with pytest.raises(QueueFullError, match="2 requests wait already"):
            await engine.score(Job("d", ["a"]), queue_limit=2)
        assert engine.waiting == 2


def test_times_tell_waiting_from_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 103.0, 110.0])
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    request = module.QueuedRequest([LONG, LONG], lambda *_: None)
    chunks = [request.take_chunk(1000) for _ in range(2)]
    assert request.finish_chunk(chunks[1], "b") is None
    assert request.finish_chunk(chunks[0], "a") == (["a", "b"], 3, 7)


async def test_vectors_come_in_order_from_several_chunks() -> None:
    recorder = Recorder(threads=2)
    async with run_engine(lambda: recorder) as engine:
        vectors, tokens = await engine.embed(["x" * length for length in (1000, 999, 5, 1001)], 512)
    assert (vectors[:, 0].tolist(), tokens) == ([1000, 999, 5, 1001], 4)
    assert len(recorder.chunks) > 1


async def test_a_scorer_without_vectors_says_so_and_goes_on() -> None:
    async with run_engine(Recorder) as engine:
        with pytest.raises(EmbeddingsUnavailableError):
            await engine.embed(["a"], 0)
        assert engine.trouble is None


@pytest.mark.parametrize("error", [ValueError("a defect"), SystemExit("a panic")])
async def test_everyone_learns_of_a_crash_and_nobody_hangs(error: BaseException) -> None:
    recorder = Recorder(1, threads=2)
    recorder.error = error
    async with hold(recorder) as (engine, first):
        with pytest.raises(EngineStoppedError, match="The engine stopped"):
            await engine.score(Job("second", ["a"]))
        with pytest.raises(EngineStoppedError, match=str(error)):
            await first
        assert str(error) in str(engine.trouble)
        with pytest.raises(EngineStoppedError, match=str(error)):
            await engine.score(Job("later", ["a"]))
    assert recorder.closed.wait(SOON)


async def test_closing_answers_everyone_with_an_error() -> None:
    recorder = Recorder(1)
    async with hold(recorder) as (engine, first):
        waiting = await queue(engine, Job("second", ["a"]))
        engine.close()
        engine.close()
        results = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert [str(result) for result in results] == ["The engine was closed."] * 2
        recorder.go.release()
        assert recorder.closed.wait(SOON)


async def test_a_model_that_cannot_be_loaded_says_why() -> None:
    def fail() -> RelevanceModel:
        raise OSError("no such file")

    async with run_engine(fail) as engine:
        with pytest.raises(OSError, match="no such file"):
            await asyncio.wrap_future(engine.loaded)
        assert engine.trouble == "The model could not be loaded: no such file"
        with pytest.raises(EngineStoppedError, match="no such file"):
            await engine.score(Job("q", ["a"]))


async def test_a_loading_time_that_cannot_be_is_an_error() -> None:
    recorder = Recorder()
    async with run_engine(lambda: recorder, load_seconds=1e10) as engine:
        assert isinstance(engine.loaded.exception(timeout=SOON), OverflowError)
    assert recorder.closed.wait(SOON)


async def test_a_job_may_wait_for_the_model_to_load() -> None:
    let_go = threading.Event()

    def load() -> Recorder:
        let_go.wait(SOON)
        return Recorder()

    async with run_engine(load) as engine:
        [task] = await queue(engine, Job("q", ["a"]))
        assert engine.trouble == "The model is still loading."
        let_go.set()
        assert (await task).scores.raw.tolist() == [1]
        assert engine.trouble is None


async def test_closing_does_not_wait_for_a_loading_phase_made_longer() -> None:
    recorder = Recorder()
    async with run_engine(lambda: recorder, load_seconds=3600) as engine:
        [task] = await queue(engine, Job("q", ["a"]))
        assert engine.trouble == "The model is still loading."
        engine.close()
        with pytest.raises(EngineStoppedError, match="closed"):
            await task
    assert recorder.closed.wait(SOON)
    assert not engine.loaded.done()


async def test_the_event_loop_stays_free_while_the_model_scores() -> None:
    texts = [f"{number} " + "word " * 120 for number in range(40)]
    async with run_engine(lambda: RelevanceModel.load(threads=2)) as engine:
        scoring = asyncio.create_task(engine.score(Job("q", texts)))
        turns = 0
        while not scoring.done():
            await asyncio.sleep(0.005)
            turns += 1
        expected = RelevanceModel.load(threads=1).score(Job("q", texts)).raw
        np.testing.assert_array_equal(scoring.result().scores.raw, expected)
    assert turns > 10


@pytest.mark.parametrize("text", ["", "cross-encoder", "cross-encoder:", "bm25"])
def test_an_unknown_scorer_names_those_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="choose late-interaction, or cross-encoder:<hub id or folder>"):
        registry.choose_scorer(text)


def test_a_cross_encoder_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    load = registry.choose_scorer("cross-encoder:some/model", threads=1)
    with pytest.raises(CrossEncoderError, match="the extra `cross-encoder`"):
        load()
