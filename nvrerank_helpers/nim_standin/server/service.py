"""What answers: the models that are served, the behaviour in force, and the way of one ranking request."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nvrerank_helpers.connector import DEFAULT_MODEL, known
from nvrerank_helpers.extras import ExtraNotInstalled
from nvrerank_helpers.nim_standin.faults.deferred import LaterAnswers
from nvrerank_helpers.nim_standin.faults.plan import Plan
from nvrerank_helpers.nim_standin.ocr import PageReader, PictureError
from nvrerank_helpers.nim_standin.profiles import (
    MAX_TOKENS,
    NIM_1_10,
    TIME_LIMIT_SECONDS,
    Behaviour,
    Reason,
    RefusalError,
)
from nvrerank_helpers.nim_standin.scoring.batching import Scored
from nvrerank_helpers.nim_standin.scoring.engine import Engine, EngineStoppedError, QueueFullError
from nvrerank_helpers.nim_standin.scoring.jobs import (
    EmbeddingsUnavailableError,
    InputTooLongError,
    Job,
    ScoreError,
    Scores,
)
from nvrerank_helpers.nim_standin.server.catalog_gateway import Gateway
from nvrerank_helpers.nim_standin.server.metrics import Metrics
from nvrerank_helpers.nim_standin.server.recorder import Records
from nvrerank_helpers.nim_standin.server.schemas import Passage, Ranking, RankingRequest, RankingResponse, Usage


@dataclass
class Service:
    """One stand-in.

    Attributes:
        engine: Scores.
        models: Ids that are served, with a limit of tokens where it is not the model's own.
        behaviour: In force; it may be switched while the service runs.
        gateway: Admits requests where the behaviour is hosted.
        reader: Reads page images.
        time_limit: Seconds after which a request is given up.
        metrics: Counts what was done.
        plan: Faults that requests meet.
        records: The last requests, as they came.
        later: Answers that were put off.
    """

    engine: Engine
    models: Mapping[str, int | None] = field(default_factory=lambda: {DEFAULT_MODEL: None})
    behaviour: Behaviour = NIM_1_10
    gateway: Gateway = field(default_factory=Gateway)
    reader: PageReader = field(default_factory=PageReader)
    time_limit: float = TIME_LIMIT_SECONDS
    metrics: Metrics = field(default_factory=Metrics)
    plan: Plan = field(default_factory=Plan)
    records: Records = field(default_factory=Records)
    later: LaterAnswers = field(default_factory=LaterAnswers)
    # One thread: the reader takes one page at a time, and a page of a client that has gone is not begun.
    _reading: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "read"), repr=False)

    def start(self) -> None:
        """Begin to load the model."""
        self.engine.start()

    def close(self) -> None:
        """Give up what waits."""
        self._reading.shutdown(wait=False, cancel_futures=True)
        self.engine.close()

    def token_limit(self, model: str) -> int:
        """Return the most tokens of a query with one passage."""
        own = self.models.get(model) or self.behaviour.token_limits.get(model)
        return own or known(model).token_limit or MAX_TOKENS

    async def rank(self, request: RankingRequest, models: Collection[str]) -> RankingResponse:
        """Answer a ranking request.

        Args:
            request: The checked body.
            models: Ids that may be asked for on this route.

        Returns:
            The rankings and the usage.

        Raises:
            RefusalError: The request cannot be answered.
        """
        truncate = request.truncate or self.behaviour.default_truncate
        self._check(request, models)
        async with self.limits():
            texts = [await self._text(passage, number) for number, passage in enumerate(request.passages)]
            job = Job(request.query.text, texts, max_tokens=self.token_limit(request.model), truncate=truncate)
            return _response((await self.score(job)).scores)

    async def score(self, job: Job) -> Scored:
        """Score a job for any route, within the limits of the behaviour in force.

        Raises:
            RefusalError: The pair is too long, too many wait, it took too long, or the engine does not work.
        """
        async with self.limits():
            scored = await self.engine.score(job, self.behaviour.queue_limit)
        self.metrics.scored(scored)
        return scored

    async def embed(self, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.float32], int]:
        """Return the unit vectors of texts and the number of their tokens.

        Raises:
            RefusalError: The scorer has no vectors, it took too long, or the engine does not work.
        """
        async with self.limits():
            return await self.engine.embed(texts, max_tokens)

    @asynccontextmanager
    async def limits(self) -> AsyncIterator[None]:
        """Give up after the time limit, and turn what the engine raises into refusals."""
        if trouble := self.engine.trouble():
            raise RefusalError(Reason.NOT_READY, trouble)
        try:
            async with asyncio.timeout(self.time_limit):
                yield
        except TimeoutError:
            message = f"The request took longer than {self.time_limit:g} seconds"
            raise RefusalError(Reason.TOO_SLOW, message) from None
        except InputTooLongError as error:
            told = InputTooLongError(self.behaviour.told_length(error.length), error.limit)
            raise RefusalError(Reason.TOO_LONG, str(told)) from None
        except QueueFullError as error:
            raise RefusalError(Reason.QUEUE_FULL, str(error)) from None
        except EngineStoppedError as error:
            raise RefusalError(Reason.NOT_READY, str(error)) from None
        except ScoreError as error:
            raise RefusalError(Reason.NO_SCORE, str(error)) from None
        except EmbeddingsUnavailableError as error:
            raise RefusalError(Reason.NOT_INSTALLED, str(error)) from None

    def _check(self, request: RankingRequest, models: Collection[str]) -> None:
        if request.model not in models:
            served = ", ".join(models)
            raise RefusalError(
                Reason.UNKNOWN_MODEL, f"The model '{request.model}' is not served here; this is: {served}"
            )
        entry = known(request.model)
        if len(request.passages) > entry.passage_limit:
            message = f"passages: {request.model} takes at most {entry.passage_limit}, not {len(request.passages)}"
            raise RefusalError(Reason.INVALID, message)
        pictures = [passage for passage in request.passages if passage.image is not None]
        if pictures and not entry.images:
            raise RefusalError(Reason.NO_IMAGES, f"{request.model} reads text only: send passages without `image`")
        if self.behaviour.strict_images and any(passage.text == "" for passage in pictures):
            raise RefusalError(Reason.INVALID, "A passage's text must not be empty: leave it out beside an image")

    async def _text(self, passage: Passage, number: int) -> str:
        """Return what a passage says; the words on an image follow its text."""
        if passage.image is None:
            return passage.text or ""
        try:
            words = await asyncio.get_running_loop().run_in_executor(self._reading, self.reader.text, passage.image)
        except PictureError as error:
            raise RefusalError(Reason.INVALID, f"passages.{number}.image: {error}") from None
        except ExtraNotInstalled as error:
            message = f"This stand-in cannot read images. {error}. Then start it again; or leave `image` out"
            raise RefusalError(Reason.NOT_INSTALLED, message) from None
        return "\n".join(filter(None, (passage.text, words)))


def _response(scores: Scores) -> RankingResponse:
    logits = scores.logits
    order = np.argsort(-logits, kind="stable")
    tokens = int(scores.tokens.sum())
    return RankingResponse(
        rankings=[Ranking(index=int(index), logit=float(logits[index])) for index in order],
        usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
    )
