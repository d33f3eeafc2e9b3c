"""The engine: one thread that gathers what waits and has a scorer work it off, round after round.

Jobs that arrive within a short window are scored together, as the dynamic batching of a NIM's Triton server does.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvrerank_helpers.minilm import UnfinishedError
from nvrerank_helpers.nim_standin.scoring.batching import Embedding, Ranking, Scored, Ticket, form_round
from nvrerank_helpers.nim_standin.scoring.jobs import (
    EmbeddingsUnavailableError,
    InputTooLongError,
    Job,
    Result,
    ScoreError,
    Scorer,
    Scores,
)

logger = logging.getLogger("nvrerank_helpers.nim_standin")

Parts = list[tuple[Ticket, slice]]


class EngineStoppedError(RuntimeError):
    """The engine was closed, could not load its scorer, or crashed."""


class QueueFullError(RuntimeError):
    """As many requests wait as may wait."""


class Engine:
    """Has a scorer work off what waits, in a thread of its own.

    Args:
        load: Gives the scorer; it runs in the engine's thread.
        load_seconds: Time that loading takes longer than it must, to show what a client sees meanwhile.
        window_seconds: How long the first job waits for others when there was nothing to do.

    Attributes:
        loaded: The scorer once it is loaded, or why it could not be; never done if the engine is closed before.

    Example:
        >>> from nvrerank_helpers.nim_standin.scoring.jobs import Job
        >>> from nvrerank_helpers.nim_standin.scoring.late_interaction import RelevanceModel
        >>> engine = Engine(RelevanceModel.load)
        >>> engine.start()
        >>> asyncio.run(engine.score(Job("sort a list", ["Return a sorted list."]))).scores.tokens.tolist()
        [11]
        >>> engine.close()
    """

    def __init__(self, load: Callable[[], Scorer], *, load_seconds: float = 0, window_seconds: float = 0.002) -> None:
        self.loaded: Future[Scorer] = Future()
        self._load = load
        self._load_seconds = load_seconds
        self._window_seconds = window_seconds
        self._queue: deque[Ticket] = deque()
        self._in_work: Parts = []
        self._why_stopped: str | None = None
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to load; `loaded` tells when that is done."""
        self._thread.start()

    def close(self) -> None:
        """Stop without waiting; every open request gets an `EngineStoppedError`. Closing twice does no harm."""
        self._stop("The engine was closed.")

    def trouble(self) -> str | None:
        """Say why nothing can be scored now; None when all is well."""
        if self._why_stopped:
            return self._why_stopped
        return None if self.loaded.done() else "The model is still loading."

    @property
    def waiting(self) -> int:
        """Requests that wait for a round."""
        return len(self._queue)

    async def score(self, job: Job, queue_limit: int | None = None) -> Scored:
        """Score a job; cancelling this drops what is not scored yet.

        Args:
            job: What to judge.
            queue_limit: Most requests that may wait already; None for any number.

        Returns:
            The scores, and how long they took.

        Raises:
            InputTooLongError: A pair is longer than the job allows, and may not be cut.
            ScoreError: The scorer gave a passage no number.
            QueueFullError: Too many requests wait.
            EngineStoppedError: The engine was closed, could not load its scorer, or crashed.
        """
        scored: Scored = await self._answer(Ranking(job), queue_limit)
        return scored

    async def embed(self, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.float32], int]:
        """Turn texts into unit vectors; they wait in the same queue.

        Args:
            texts: What to embed.
            max_tokens: Limit of one text, special tokens included.

        Returns:
            The vectors, shape (texts, dimensions), and the number of all tokens.

        Raises:
            EmbeddingsUnavailableError: The scorer has no vectors.
            InputTooLongError: A text is longer than `max_tokens`.
            EngineStoppedError: The engine was closed, could not load its scorer, or crashed.
        """
        embedded: tuple[NDArray[np.float32], int] = await self._answer(Embedding(texts, max_tokens))
        return embedded

    async def _answer(self, ticket: Ticket, queue_limit: int | None = None) -> Any:
        with self._changed:
            if self._why_stopped:
                raise EngineStoppedError(self._why_stopped)
            if queue_limit is not None and len(self._queue) >= queue_limit:
                raise QueueFullError(f"The queue is full: {len(self._queue)} requests wait already")
            self._queue.append(ticket)
            self._changed.notify()
        try:
            return await asyncio.wrap_future(ticket.answer)
        finally:
            self._forget(ticket)

    def _forget(self, ticket: Ticket) -> None:
        with self._changed:
            if ticket in self._queue:
                self._queue.remove(ticket)

    def _work(self) -> None:
        # Everything is caught, as a panic inside the tokenizer is no `Exception`: whatever happens here, nobody may
        # wait for an answer that never comes.
        try:
            scorer = self._load()
        except BaseException as error:  # noqa: BLE001
            self._stop(f"The model could not be loaded: {error}")
            self.loaded.set_exception(error)
            return
        try:
            self._stopping.wait(self._load_seconds)
            if not self._stopping.is_set():
                self.loaded.set_result(scorer)
            while not self._stopping.is_set():
                self._score(scorer, self._next_round())
        except BaseException as error:
            if not self._stopping.is_set():
                logger.exception("The engine stopped")
            self._stop(f"The engine stopped: {error!r}")
            if not self.loaded.done():
                self.loaded.set_exception(error)
        finally:
            scorer.close()

    def _stop(self, why: str) -> None:
        with self._changed:
            self._why_stopped = self._why_stopped or why
            self._stopping.set()
            for ticket in (*self._queue, *(ticket for ticket, _ in self._in_work)):
                self._finish(ticket, EngineStoppedError(self._why_stopped))
            self._queue.clear()
            self._changed.notify()

    def _next_round(self) -> Parts:
        with self._changed:
            self._in_work = []  # else the texts of a round stay in memory until the next one
            idle = not self._queue
            self._changed.wait_for(lambda: self._queue or self._stopping.is_set())
        if idle:
            self._stopping.wait(self._window_seconds)
        with self._changed:
            self._in_work = form_round(self._queue)
            return self._in_work

    def _score(self, scorer: Scorer, parts: Parts) -> None:
        rankings = [(ticket, texts) for ticket, texts in parts if isinstance(ticket, Ranking)]
        jobs = [ticket.part(texts) for ticket, texts in rankings]
        if jobs:
            for position, result in scorer.score_jobs(jobs, lambda position: rankings[position][0].gone):
                self._deliver(*rankings[position], _checked(result, rankings[position][1]))
        for ticket, texts in parts:
            if isinstance(ticket, Embedding) and not ticket.gone:
                self._deliver(ticket, texts, _embedded(scorer, ticket, texts))

    def _deliver(self, ticket: Ticket, texts: slice, result: Any) -> None:
        """Note what became of a part: answer the request after the last one, queue it again before that."""
        if isinstance(result, UnfinishedError):
            ticket.taken = texts.start
        elif isinstance(result, Exception):
            self._finish(ticket, result)
            return
        else:
            ticket.done.append(result)
            if ticket.all_taken:
                self._finish(ticket, ticket.result())
                return
        with self._changed:
            if not ticket.gone:
                self._queue.append(ticket)

    def _finish(self, ticket: Ticket, result: Any) -> None:
        with self._changed:  # nobody but the awaiting task may answer at the same time, and it only cancels
            if ticket.gone or not ticket.answer.set_running_or_notify_cancel():
                return
            if isinstance(result, Exception):
                ticket.answer.set_exception(result)
            else:
                ticket.answer.set_result(result)


def _checked(result: Result, texts: slice) -> Result | ScoreError:
    if isinstance(result, Scores) and np.isnan(result.raw).any():
        return ScoreError(texts.start + int(np.isnan(result.raw).argmax()))
    return result


def _embedded(scorer: Scorer, ticket: Embedding, texts: slice) -> Any:
    try:
        return scorer.embed(ticket.texts[texts], ticket.max_tokens)
    except (EmbeddingsUnavailableError, InputTooLongError, UnfinishedError) as error:
        return error
