"""The state of one stand-in, and what it does for each request."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nvrerank_helpers.connector import DEFAULT_MODEL, find_model
from nvrerank_helpers.extras import ExtraNotInstalled
from nvrerank_helpers.nim_standin.faults.deferred import PendingResponses
from nvrerank_helpers.nim_standin.faults.plan import FaultPlan
from nvrerank_helpers.nim_standin.ocr import PageImageError, PageReader
from nvrerank_helpers.nim_standin.profiles import (
    MAX_TOKENS,
    NIM_1_10,
    TIME_LIMIT_SECONDS,
    Profile,
    Reason,
    RefusalError,
)
from nvrerank_helpers.nim_standin.scoring.engine import Engine, EngineStoppedError, QueueFullError
from nvrerank_helpers.nim_standin.scoring.jobs import (
    EmbeddingsUnavailableError,
    InputTooLongError,
    Job,
    ScoreError,
    ScoreResult,
    Scores,
)
from nvrerank_helpers.nim_standin.server.catalog_gateway import CatalogGateway
from nvrerank_helpers.nim_standin.server.metrics import Metrics
from nvrerank_helpers.nim_standin.server.recorder import RequestLog
from nvrerank_helpers.nim_standin.server.schemas import (
    Ranking,
    RankingPassage,
    RankingRequest,
    RankingResponse,
    Usage,
)


@dataclass
class StandInService:
    """One stand-in.

    Attributes:
        models: Ids that are served, with a limit of tokens where it is not the model's own.
        profile: What the service imitates; it may be replaced while the service runs.
        time_limit: Seconds after which a request is aborted.
    """

    engine: Engine
    models: Mapping[str, int | None] = field(default_factory=lambda: {DEFAULT_MODEL: None})
    profile: Profile = NIM_1_10
    gateway: CatalogGateway = field(default_factory=CatalogGateway)
    reader: PageReader = field(default_factory=PageReader)
    time_limit: float = TIME_LIMIT_SECONDS
    metrics: Metrics = field(default_factory=Metrics)
    plan: FaultPlan = field(default_factory=FaultPlan)
    log: RequestLog = field(default_factory=RequestLog)
    pending: PendingResponses = field(default_factory=PendingResponses)
    # One thread: the reader takes one page at a time, and never starts the page of a client that has disconnected.
    _reading: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "read"), repr=False)

    def start(self) -> None:
        """Begin to load the model."""
        self.engine.start()

    def close(self) -> None:
        """Abort what waits."""
        self._reading.shutdown(wait=False, cancel_futures=True)
        self.engine.close()

    def token_limit(self, model: str) -> int:
        """Return the most tokens of a query with one passage."""
        own = self.models.get(model) or self.profile.token_limits.get(model)
        return own or find_model(model).token_limit or MAX_TOKENS

    async def rank(self, request: RankingRequest, models: Collection[str]) -> RankingResponse:
        """Answer a ranking request for one of `models`, or raise a `RefusalError`."""
        truncate = request.truncate or self.profile.default_truncate
        self._check(request, models)
        async with self.limits():
            texts = [await self._read_text(passage, number) for number, passage in enumerate(request.passages)]
            job = Job(request.query.text, texts, max_tokens=self.token_limit(request.model), truncate=truncate)
            return _build_response((await self.score(job)).scores)

    async def score(self, job: Job) -> ScoreResult:
        """Score a job for any route within the limits of the profile, or raise a `RefusalError`."""
        async with self.limits():
            result = await self.engine.score(job, self.profile.queue_limit)
        self.metrics.count_scores(result)
        return result

    async def embed(self, texts: Sequence[str], max_tokens: int) -> tuple[NDArray[np.float32], int]:
        """Return the unit vectors of texts and the number of their tokens, or raise a `RefusalError`."""
        async with self.limits():
            return await self.engine.embed(texts, max_tokens)

    @asynccontextmanager
    async def limits(self) -> AsyncIterator[None]:
        """Abort after the time limit, and turn the engine's errors into refusals."""
        if trouble := self.engine.trouble:
            raise RefusalError(Reason.NOT_READY, trouble)
        try:
            async with asyncio.timeout(self.time_limit):
                yield
        except TimeoutError:
            message = f"The request took longer than {self.time_limit:g} seconds"
            raise RefusalError(Reason.TOO_SLOW, message) from None
        except InputTooLongError as error:
            reported = InputTooLongError(self.profile.report_length(error.length), error.limit)
            raise RefusalError(Reason.TOO_LONG, str(reported)) from None
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
            raise RefusalError(
                Reason.UNKNOWN_MODEL, f"The model '{request.model}' is not served here; this is: {', '.join(models)}"
            )
        entry = find_model(request.model)
        if len(request.passages) > entry.passage_limit:
            message = f"passages: {request.model} takes at most {entry.passage_limit}, not {len(request.passages)}"
            raise RefusalError(Reason.INVALID, message)
        with_image = [passage for passage in request.passages if passage.image is not None]
        if with_image and not entry.images:
            raise RefusalError(Reason.NO_IMAGES, f"{request.model} reads text only: send passages without `image`")
        if self.profile.strict_images and any(passage.text == "" for passage in with_image):
            raise RefusalError(Reason.INVALID, "A passage's text must not be empty: leave it out beside an image")

    async def _read_text(self, passage: RankingPassage, number: int) -> str:
        """Return a passage's text, followed by the words on its image."""
        if passage.image is None:
            return passage.text or ""
        try:
            words = await asyncio.get_running_loop().run_in_executor(self._reading, self.reader.text, passage.image)
        except PageImageError as error:
            raise RefusalError(Reason.INVALID, f"passages.{number}.image: {error}") from None
        except ExtraNotInstalled as error:
            message = f"This stand-in cannot read images. {error}. Then start it again; or leave `image` out"
            raise RefusalError(Reason.NOT_INSTALLED, message) from None
        return "\n".join(filter(None, (passage.text, words)))


def _build_response(scores: Scores) -> RankingResponse:
    logits = scores.logits
    order = np.argsort(-logits, kind="stable")
    tokens = int(scores.tokens.sum())
    return RankingResponse(
        rankings=[Ranking(index=int(index), logit=float(logits[index])) for index in order],
        usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
    )
