"""The engine: it gathers jobs into rounds, is fair to small ones, and leaves nobody waiting when it stops."""

import asyncio
import sys
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nvrerank_helpers.minilm import UnfinishedError
from nvrerank_helpers.nim_standin.scoring import batching, registry
from nvrerank_helpers.nim_standin.scoring.batching import ROUND
from nvrerank_helpers.nim_standin.scoring.cross_encoder import CrossEncoderError
from nvrerank_helpers.nim_standin.scoring.engine import Engine, EngineStoppedError, QueueFullError
from nvrerank_helpers.nim_standin.scoring.jobs import (
    EmbeddingsUnavailableError,
    InputTooLongError,
    Job,
    Result,
    ScoreError,
    Scores,
)
from nvrerank_helpers.nim_standin.scoring.late_interaction import RelevanceModel

HALF = ROUND // 2 + 1
SOON = 10  # seconds; far more than anything here takes


class Recorder:
    """A scorer that scores a passage with its length, notes its rounds, and holds some of them until told to go.

    Attributes:
        unfinished: Rounds that every passage "slow" takes more than others.
    """

    def __init__(self, *held: int) -> None:
        self.held = held
        self.rounds: list[list[tuple[str, int]]] = []
        self.scored: list[str] = []
        self.unfinished = 0
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.closed = threading.Event()
        self.error: BaseException | None = None

    def score_jobs(self, jobs: Sequence[Job], gone: Callable[[int], bool]) -> Iterator[tuple[int, Result]]:
        self.rounds.append([(job.query, len(job.passages)) for job in jobs])
        if len(self.rounds) in self.held:
            self.entered.release()
            self.go.acquire(timeout=SOON)
        if self.error:
            raise self.error
        for position, job in enumerate(jobs):
            if job.query == "too long":
                yield position, InputTooLongError(9, 8)
            elif "slow" in job.passages and self.unfinished:
                self.unfinished -= 1
                yield position, UnfinishedError()
            elif not gone(position):
                self.scored.append(job.query)
                lengths = np.array([len(text) for text in job.passages])
                raw = [np.nan if text == "nan" else len(text) for text in job.passages]
                yield position, Scores(np.array(raw, dtype=np.float32), lengths)

    def embed(self, texts: Sequence[str], max_tokens: int) -> tuple[np.ndarray, int]:
        if max_tokens == 0:
            raise EmbeddingsUnavailableError("no vectors")
        if "slow" in texts and self.unfinished:
            self.unfinished -= 1
            raise UnfinishedError
        self.rounds.append([("embed", len(texts))])
        return np.array([[len(text)] for text in texts], dtype=np.float32), len(texts)

    def close(self) -> None:
        self.closed.set()


@asynccontextmanager
async def running(load: Callable[[], Any], **options: Any) -> AsyncIterator[Engine]:
    engine = Engine(load, **options)
    engine.start()
    try:
        async with asyncio.timeout(SOON):  # what hangs fails
            yield engine
    finally:
        engine.close()


@asynccontextmanager
async def held(recorder: Recorder, **options: Any) -> AsyncIterator[tuple[Engine, asyncio.Task[Any]]]:
    """An engine whose scorer is held in the midst of its first round, which has one job."""
    async with running(lambda: recorder, **options) as engine:
        first = asyncio.create_task(engine.score(Job("first", ["a"])))
        await asyncio.to_thread(recorder.entered.acquire, timeout=SOON)
        yield engine, first
        recorder.go.release()


async def queued(engine: Engine, *jobs: Job) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(engine.score(job)) for job in jobs]
    await asyncio.sleep(0)  # each runs until it waits
    assert engine.waiting == len(jobs)
    return tasks


async def test_a_job_gets_the_scores_of_its_passages_in_order() -> None:
    async with running(Recorder) as engine:
        scored = await engine.score(Job("q", ["aaa", "a", "aa"]))
    assert scored.scores.raw.tolist() == [3, 1, 2]


async def test_jobs_that_wait_share_a_round() -> None:
    recorder = Recorder(1)
    async with held(recorder) as (engine, _):
        tasks = await queued(engine, *[Job(name, [name]) for name in ("b", "cc", "ddd")])
        recorder.go.release()
        scored = await asyncio.gather(*tasks)
    assert recorder.rounds == [[("first", 1)], [("b", 1), ("cc", 1), ("ddd", 1)]]
    assert [one.scores.raw.tolist() for one in scored] == [[1], [2], [3]]


async def test_the_first_job_waits_a_moment_for_others() -> None:
    recorder = Recorder()
    async with running(lambda: recorder, window_seconds=SOON) as engine:
        await asyncio.to_thread(engine.loaded.result)
        first = asyncio.create_task(engine.score(Job("first", ["a"])))
        await asyncio.sleep(0)
        assert engine.waiting == 1
        engine.close()
        with pytest.raises(EngineStoppedError):
            await first
    assert recorder.rounds == []


async def test_a_round_is_bounded_and_small_jobs_stay_whole() -> None:
    recorder = Recorder(1)
    async with held(recorder) as (engine, _):
        tasks = await queued(engine, *[Job(name, ["x" * HALF, "y"]) for name in "abc"])
        recorder.go.release()
        await asyncio.gather(*tasks)
    assert recorder.rounds[1:] == [[("a", 2), ("b", 2)], [("c", 2)]]


async def test_a_small_job_overtakes_a_huge_one() -> None:
    recorder = Recorder(1)
    order: list[str] = []
    async with held(recorder) as (engine, _):
        huge, small = await queued(engine, Job("huge", ["x" * HALF] * 6), Job("small", ["a"]))
        for name, task in (("huge", huge), ("small", small)):
            task.add_done_callback(lambda _, name=name: order.append(name))
        recorder.go.release()
        scored = (await asyncio.gather(huge, small))[0]
    assert order == ["small", "huge"]
    assert recorder.rounds[1] == [("huge", 1), ("small", 1)]
    assert scored.scores.raw.tolist() == [HALF] * 6
    assert scored.scores.tokens.tolist() == [HALF] * 6


async def test_a_cancelled_job_leaves_the_queue() -> None:
    recorder = Recorder(1)
    async with held(recorder) as (engine, first):
        [task] = await queued(engine, Job("cancelled", ["a"]))
        task.cancel()
        await asyncio.wait([task])
        assert engine.waiting == 0
        recorder.go.release()
        await first
        await engine.score(Job("last", ["a"]))
    assert recorder.rounds == [[("first", 1)], [("last", 1)]]


async def test_a_huge_job_that_is_cancelled_costs_no_further_round() -> None:
    recorder = Recorder(1, 2)
    async with held(recorder) as (engine, _):
        [huge] = await queued(engine, Job("huge", ["x" * ROUND] * 50))
        recorder.go.release()
        await asyncio.to_thread(recorder.entered.acquire, timeout=SOON)
        huge.cancel()
        await asyncio.wait([huge])
        recorder.go.release()
        await engine.score(Job("last", ["a"]))
    assert recorder.rounds == [[("first", 1)], [("huge", 1)], [("last", 1)]]


async def test_a_job_that_is_cancelled_in_work_is_dropped() -> None:
    recorder = Recorder(1)
    async with held(recorder) as (engine, first):
        first.cancel()
        await asyncio.wait([first])
        recorder.go.release()
        await engine.score(Job("last", ["a"]))
    assert recorder.scored == ["last"]


async def test_a_job_that_takes_several_rounds_lets_others_through() -> None:
    recorder = Recorder(1)
    recorder.unfinished = 3
    async with held(recorder) as (engine, _):
        slow, quick = await queued(engine, Job("s", ["a", "slow"]), Job("q", ["bb"]))
        recorder.go.release()
        assert (await slow).scores.raw.tolist() == [1, 4]
        assert quick.done()
    assert recorder.rounds[1:] == [[("s", 2), ("q", 1)], [("s", 2)], [("s", 2)], [("s", 2)]]


async def test_a_job_without_passages_may_take_several_rounds_too() -> None:
    class Slow(Recorder):
        def score_jobs(self, jobs: Sequence[Job], gone: Callable[[int], bool]) -> Iterator[tuple[int, Result]]:
            self.rounds.append([])
            if len(self.rounds) == 1:
                yield 0, UnfinishedError()
            else:
                yield from super().score_jobs(jobs, gone)

    async with running(Slow) as engine:
        assert len((await engine.score(Job("q", []))).scores.raw) == 0


async def test_vectors_may_take_several_rounds() -> None:
    recorder = Recorder()
    recorder.unfinished = 2
    async with running(lambda: recorder) as engine:
        vectors, tokens = await engine.embed(["a", "slow"], 512)
    assert (vectors[:, 0].tolist(), tokens) == ([1, 4], 2)


async def test_a_job_with_a_score_that_is_no_number_fails_alone() -> None:
    async with running(Recorder) as engine:
        results = await asyncio.gather(
            engine.score(Job("bad", ["a", "nan"])), engine.score(Job("good", ["a"])), return_exceptions=True
        )
        assert engine.trouble() is None
    assert isinstance(results[0], ScoreError)
    assert "no number (NaN) for passage 1" in str(results[0])
    assert results[1].scores.raw.tolist() == [1]


async def test_the_engine_forgets_the_texts_of_a_round_when_it_is_over() -> None:
    forgotten = threading.Event()

    async def score(engine: Engine) -> None:
        job = Job("q", ["a"])
        weakref.finalize(job, forgotten.set)
        await engine.score(job)

    async with running(Recorder) as engine:
        await score(engine)
        assert await asyncio.to_thread(forgotten.wait, SOON)


async def test_a_full_queue_refuses_at_once() -> None:
    async with held(Recorder(1)) as (engine, _):
        await queued(engine, Job("b", ["a"]), Job("c", ["a"]))
        with pytest.raises(QueueFullError, match="2 requests wait already"):
            await engine.score(Job("d", ["a"]), queue_limit=2)
        assert engine.waiting == 2


async def test_a_job_that_is_too_long_fails_alone() -> None:
    async with running(Recorder) as engine:
        results = await asyncio.gather(
            engine.score(Job("too long", ["a"])), engine.score(Job("q", ["a"])), return_exceptions=True
        )
        assert engine.trouble() is None
    assert isinstance(results[0], InputTooLongError)
    assert results[1].scores.raw.tolist() == [1]


def test_times_tell_waiting_from_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 103.0, 110.0])
    monkeypatch.setattr(batching, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    ticket = batching.Ranking(Job("q", ["a"]))
    [(_, texts)] = batching.form_round(deque([ticket]))
    assert texts == slice(0, 1)
    ticket.done.append(Scores(np.zeros(1, dtype=np.float32), np.ones(1, dtype=np.int64)))
    scored = ticket.result()
    assert (scored.queue_seconds, scored.inference_seconds) == (3, 7)


async def test_vectors_come_in_order_also_over_several_rounds() -> None:
    recorder = Recorder()
    texts = ["x" * length for length in (HALF, HALF + 1, HALF + 2, 5)]
    async with running(lambda: recorder) as engine:
        vectors, tokens = await engine.embed(texts, 512)
    assert vectors[:, 0].tolist() == [HALF, HALF + 1, HALF + 2, 5]
    assert tokens == 4
    assert len([one for one in recorder.rounds if one]) > 1


async def test_a_scorer_without_vectors_says_so_and_goes_on() -> None:
    async with running(Recorder) as engine:
        with pytest.raises(EmbeddingsUnavailableError):
            await engine.embed(["a"], 0)
        assert engine.trouble() is None


@pytest.mark.parametrize("error", [ValueError("a defect"), SystemExit("a panic")])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_crash_is_told_to_everyone_and_nobody_hangs(error: BaseException) -> None:
    recorder = Recorder(1)
    recorder.error = error
    async with held(recorder) as (engine, first):
        waiting = await queued(engine, Job("second", ["a"]))
        recorder.go.release()
        results = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert [type(result) for result in results] == [EngineStoppedError] * 2
        assert "The engine stopped" in str(engine.trouble())
        with pytest.raises(EngineStoppedError, match=str(error)):
            await engine.score(Job("later", ["a"]))
    assert recorder.closed.wait(SOON)


async def test_closing_answers_everyone_with_an_error() -> None:
    recorder = Recorder(1)
    async with held(recorder) as (engine, first):
        waiting = await queued(engine, Job("second", ["a"]))
        engine.close()
        engine.close()
        results = await asyncio.gather(first, *waiting, return_exceptions=True)
        assert [str(result) for result in results] == ["The engine was closed."] * 2
        recorder.go.release()
        assert recorder.closed.wait(SOON)


async def test_a_model_that_cannot_be_loaded_is_told() -> None:
    def fail() -> RelevanceModel:
        raise OSError("no such file")

    async with running(fail) as engine:
        with pytest.raises(OSError, match="no such file"):
            await asyncio.wrap_future(engine.loaded)
        assert engine.trouble() == "The model could not be loaded: no such file"
        with pytest.raises(EngineStoppedError, match="no such file"):
            await engine.score(Job("q", ["a"]))


async def test_a_loading_phase_that_cannot_be_is_told() -> None:
    recorder = Recorder()
    async with running(lambda: recorder, load_seconds=1e10) as engine:
        assert isinstance(engine.loaded.exception(timeout=SOON), OverflowError)
    assert recorder.closed.wait(SOON)


async def test_a_job_may_wait_for_the_model_to_load() -> None:
    let_go = threading.Event()

    def load() -> Recorder:
        let_go.wait(SOON)
        return Recorder()

    async with running(load) as engine:
        task = (await queued(engine, Job("q", ["a"])))[0]
        assert engine.trouble() == "The model is still loading."
        let_go.set()
        assert (await task).scores.raw.tolist() == [1]
        assert engine.trouble() is None


async def test_closing_does_not_wait_for_a_loading_phase_made_longer() -> None:
    recorder = Recorder()
    async with running(lambda: recorder, load_seconds=3600) as engine:
        task = (await queued(engine, Job("q", ["a"])))[0]
        assert engine.trouble() == "The model is still loading."
        engine.close()
        with pytest.raises(EngineStoppedError, match="closed"):
            await task
    assert recorder.closed.wait(SOON)
    assert not engine.loaded.done()


async def test_the_event_loop_stays_free_while_the_model_scores() -> None:
    texts = [f"{number} " + "word " * 120 for number in range(40)]
    async with running(lambda: RelevanceModel.load(threads=1)) as engine:
        scoring = asyncio.create_task(engine.score(Job("q", texts)))
        turns = 0
        while not scoring.done():
            await asyncio.sleep(0.005)
            turns += 1
        expected = RelevanceModel.load(threads=2).score("q", texts).raw
        np.testing.assert_array_equal(scoring.result().scores.raw, expected)
    assert turns > 10


@pytest.mark.parametrize("text", ["", "cross-encoder", "cross-encoder:", "bm25"])
def test_an_unknown_scorer_names_those_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="choose late-interaction, or cross-encoder:<hub id or folder>"):
        registry.scorer_loader(text)


def test_a_cross_encoder_without_its_extra_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    load = registry.scorer_loader("cross-encoder:some/model", threads=1)
    with pytest.raises(CrossEncoderError, match="the extra `cross-encoder`"):
        load()
