"""Runs queued requests on a scorer.

Each request is cut into small chunks, and a pool of threads works the chunks off. The threads take one chunk of each
open request in turn, so a small request doesn't wait for all chunks of a huge one.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvrerank_helpers.nim_standin.scoring.jobs import (
    EmbeddingsUnavailableError,
    InputTooLongError,
    Job,
    ScoreError,
    Scorer,
    ScoreResult,
    Scores,
)

TEXT_OVERHEAD = 64
"""Characters that a text counts for in addition to its own. Even an empty text costs time."""

logger = logging.getLogger("nvrerank_helpers.nim_standin")

Answered = tuple[list[Any], float, float]
"""The results of a request's chunks, the seconds that it waited, and the seconds that it took."""


class EngineStoppedError(RuntimeError):
    """The engine was closed, could not load its scorer, or crashed."""


class QueueFullError(RuntimeError):
    """As many requests wait as may wait."""


class QueuedRequest:
    """A request, cut into chunks as threads become free. `run` computes the result of a chunk of its texts."""

    def __init__(self, texts: Sequence[str], run: Callable[[Scorer, slice], Any]) -> None:
        self.answer: Future[Answered] = Future()
        self.run = run
        self.begun = False
        self._texts = texts
        self._taken = 0
        self._running = 0
        self._results: dict[int, Any] = {}
        self._arrived = self._began = time.perf_counter()

    @property
    def all_taken(self) -> bool:
        """Whether every text is in a chunk."""
        return self.begun and self._taken >= len(self._texts)

    def take_chunk(self, characters: int) -> slice:
        """Take the next texts: at least one if any is left, and more while there are characters left."""
        if not self.begun:
            self.begun, self._began = True, time.perf_counter()
        start = self._taken
        while self._taken < len(self._texts) and characters > 0:
            characters -= len(self._texts[self._taken]) + TEXT_OVERHEAD
            self._taken += 1
        self._running += 1
        return slice(start, self._taken)

    def finish_chunk(self, chunk: slice, result: Any) -> Answered | None:
        """Note the result of a chunk, and return all results after the last one."""
        self._results[chunk.start] = result
        self._running -= 1
        if self._running or not self.all_taken:
            return None
        ordered = [self._results[start] for start in sorted(self._results)]
        return ordered, self._began - self._arrived, time.perf_counter() - self._began


class Engine:
    """Runs requests on a scorer, in threads.

    Args:
        load: Returns the scorer. It runs in a thread, too.
        load_seconds: How much longer than necessary loading takes, to show what a client sees meanwhile.

    Attributes:
        loaded: The scorer once it is loaded, or why it could not be. Never done if the engine is closed first.

    Example:
        >>> from nvrerank_helpers.nim_standin import RelevanceModel
        >>> engine = Engine(RelevanceModel.load)
        >>> engine.start()
        >>> asyncio.run(engine.score(Job("sort a list", ["Return a sorted list."]))).scores.tokens.tolist()
        [11]
        >>> engine.close()
    """

    def __init__(self, load: Callable[[], Scorer], *, load_seconds: float = 0) -> None:
        self.loaded: Future[Scorer] = Future()
        self._load = load
        self._load_seconds = load_seconds
        self._open: deque[QueuedRequest] = deque()
        self._unanswered: set[QueuedRequest] = set()
        self._why_stopped: str | None = None
        self._stopping = threading.Event()
        self._changed = threading.Condition()

    def start(self) -> None:
        """Begin to load, and answer once that is done."""
        threading.Thread(target=self._load_and_serve, name="engine", daemon=True).start()

    def close(self) -> None:
        """Stop without waiting. Every open request gets an `EngineStoppedError`. Closing twice does no harm."""
        self._stop("The engine was closed.")

    @property
    def trouble(self) -> str | None:
        """Why nothing can be scored now; None when all is well."""
        if self._why_stopped:
            return self._why_stopped
        return None if self.loaded.done() else "The model is still loading."

    @property
    def waiting(self) -> int:
        """Number of requests of which no chunk has begun."""
        with self._changed:
            return sum(not request.begun for request in self._open)

    async def score(self, job: Job, queue_limit: int | None = None) -> ScoreResult:
        """Score a job, unless `queue_limit` requests wait already. Cancelling this drops what has not begun."""

        def run(scorer: Scorer, chunk: slice) -> Scores:
            scores = scorer.score(replace(job, passages=job.passages[chunk]))
            if np.isnan(scores.raw).any():
                raise ScoreError(chunk.start + int(np.isnan(scores.raw).argmax()))
            return scores

        parts, waited, taken = await self._answer(QueuedRequest(job.passages, run), queue_limit)
        raw = np.concatenate([scores.raw for scores in parts])
        tokens = np.concatenate([scores.tokens for scores in parts])
        return ScoreResult(replace(parts[0], raw=raw, tokens=tokens), waited, taken)

    async def embed(self, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.float32], int]:
        """Return the unit vectors of texts, shape (texts, dimensions), and the number of all tokens."""
        request = QueuedRequest(texts, lambda scorer, chunk: scorer.embed(texts[chunk], max_tokens))
        parts, _, _ = await self._answer(request)
        return np.concatenate([vectors for vectors, _ in parts]), sum(tokens for _, tokens in parts)

    async def _answer(self, request: QueuedRequest, queue_limit: int | None = None) -> Answered:
        with self._changed:
            if self._why_stopped:
                raise EngineStoppedError(self._why_stopped)
            if queue_limit is not None and self.waiting >= queue_limit:
                raise QueueFullError(f"The queue is full: {self.waiting} requests wait already")
            self._open.append(request)
            self._unanswered.add(request)
            self._changed.notify_all()
        try:
            return await asyncio.wrap_future(request.answer)
        finally:
            with self._changed:
                self._unanswered.discard(request)
                self._forget(request)

    def _load_and_serve(self) -> None:
        # Everything is caught, here and below, because a panic inside the tokenizer is no `Exception`: whatever
        # happens, nobody may wait for an answer that never comes.
        scorer = None
        try:
            scorer = self._load()
            self._stopping.wait(self._load_seconds)
            threads = [threading.Thread(target=self._work, args=(scorer,), daemon=True) for _ in range(scorer.threads)]
            if not self._stopping.is_set():
                self.loaded.set_result(scorer)
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException as error:  # noqa: BLE001
            self._stop(f"The model could not be loaded: {error}")
            if not self.loaded.done():
                self.loaded.set_exception(error)
        finally:
            if scorer:
                scorer.close()

    def _work(self, scorer: Scorer) -> None:
        try:
            while self._work_on_chunk(scorer):
                pass
        except BaseException as error:
            if not self._stopping.is_set():
                logger.exception("The engine stopped")
            self._stop(f"The engine stopped: {error!r}")

    def _work_on_chunk(self, scorer: Scorer) -> bool:
        """Wait for a chunk and compute its result; return False when the engine stops."""
        with self._changed:
            self._changed.wait_for(lambda: self._open or self._stopping.is_set())
            if self._stopping.is_set():
                return False
            request = self._open.popleft()
            chunk = request.take_chunk(scorer.chunk_characters)
            if not request.all_taken:
                self._open.append(request)
        try:
            result = request.run(scorer, chunk)
        except (EmbeddingsUnavailableError, InputTooLongError, ScoreError) as error:
            self._reply(request, error)
            return True
        with self._changed:
            results = request.finish_chunk(chunk, result)
        if results:
            self._reply(request, results)
        return True

    def _reply(self, request: QueuedRequest, result: Any) -> None:
        with self._changed:  # only the awaiting task may interfere, and all it does is cancel
            self._forget(request)
            if request.answer.done() or not request.answer.set_running_or_notify_cancel():
                return
            if isinstance(result, Exception):
                request.answer.set_exception(result)
            else:
                request.answer.set_result(result)

    def _forget(self, request: QueuedRequest) -> None:
        if request in self._open:
            self._open.remove(request)

    def _stop(self, why: str) -> None:
        with self._changed:
            self._why_stopped = self._why_stopped or why
            self._stopping.set()
            for request in self._unanswered:
                self._reply(request, EngineStoppedError(self._why_stopped))
            self._open.clear()
            self._changed.notify_all()
