"""The routes of the stand-in: what a NIM serves, and the API catalog's path for the same models."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, Self

import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from nvrerank_helpers.catalog import DEFAULT_MODEL, MAX_PASSAGES, hosted_path
from nvrerank_helpers.nim_standin.behaviour import (
    DEFAULT_TRUNCATE,
    HEALTH,
    MAX_CHARACTERS,
    MAX_MODEL_NAME,
    MAX_TOKENS,
    NIM_1_10,
    UNKNOWN_PATH_TEXT,
    Behaviour,
    RefusalError,
    Truncate,
    invalid_request,
)
from nvrerank_helpers.nim_standin.scoring import InputTooLongError, RelevanceModel, Scores

# A length is checked on valid Unicode only, so a lone surrogate is refused here too.
Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]


class Query(BaseModel):
    """The question, always text."""

    text: Text


class Passage(BaseModel):
    """A text to judge; an image is recognised only to be refused."""

    text: Text | None = None
    image: Text | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.text is None and self.image is None:
            raise PydanticCustomError("passage_empty", "A passage needs a text that is not empty")
        return self


class RankingRequest(BaseModel):
    """Body of a ranking request; unknown fields are ignored, as in the 1.x line."""

    model: Annotated[str, Field(min_length=1, max_length=MAX_MODEL_NAME)]
    query: Query
    passages: Annotated[list[Passage], Field(min_length=1, max_length=MAX_PASSAGES)]
    truncate: Truncate = DEFAULT_TRUNCATE


class Ranking(BaseModel):
    """One passage: its place in the request, and its raw relevance."""

    index: int
    logit: float


class Usage(BaseModel):
    """Tokens of all pairs of query and passage together."""

    prompt_tokens: int
    total_tokens: int


class RankingResponse(BaseModel):
    """Every passage of the request, highest logit first, ties in the order of the request."""

    rankings: list[Ranking]
    usage: Usage


class Service:
    """Loads the model in the background and scores one request at a time, off the event loop.

    Args:
        load: Gives the relevance model; it runs in a thread after `start`.
        models: Ids of the models that this service answers for.
        behaviour: The statuses to answer with.
    """

    def __init__(
        self,
        load: Callable[[], RelevanceModel] = RelevanceModel.load,
        models: Sequence[str] = (DEFAULT_MODEL,),
        behaviour: Behaviour = NIM_1_10,
    ) -> None:
        self.models = tuple(models)
        self.behaviour = behaviour
        self.loaded: Future[RelevanceModel] = Future()
        self._load = load
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="score")

    def start(self) -> None:
        """Begin to load the model; `loaded` tells when it is done, or why it failed."""
        self._worker.submit(self._finish_loading)

    def close(self) -> None:
        """Drop the requests that wait and stop the one that runs."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        if self.loaded.done() and not self.loaded.exception():
            self.loaded.result().close()

    def _finish_loading(self) -> None:
        try:
            self.loaded.set_result(self._load())
        except Exception as error:  # noqa: BLE001 - handed to whoever reads `loaded`
            self.loaded.set_exception(error)

    def trouble(self) -> str | None:
        """Say why requests cannot be answered now; None when they can."""
        if not self.loaded.done():
            return "The model is still loading."
        failure = self.loaded.exception()
        return f"The model could not be loaded: {failure}" if failure else None

    async def rank(self, request: RankingRequest, models: Sequence[str]) -> RankingResponse:
        """Answer a ranking request.

        Args:
            request: The checked body.
            models: Ids that may be asked for on this route.

        Returns:
            The rankings and the usage.

        Raises:
            RefusalError: The request cannot be answered.
        """
        if request.model not in models:
            served = ", ".join(models)
            raise RefusalError(
                self.behaviour.unknown_model,
                f"The model '{request.model}' is not served here; this is: {served}",
            )
        if any(passage.image is not None for passage in request.passages):
            raise RefusalError(self.behaviour.image, "This stand-in reads text only: send passages without `image`")
        if trouble := self.trouble():
            raise RefusalError(self.behaviour.not_ready, trouble)
        try:
            return _response(await asyncio.wrap_future(self._worker.submit(self._score, request)))
        except InputTooLongError as error:
            raise RefusalError(self.behaviour.too_long, str(error)) from error

    def _score(self, request: RankingRequest) -> Scores:
        texts = [passage.text or "" for passage in request.passages]
        return self.loaded.result().score(request.query.text, texts, max_tokens=MAX_TOKENS, truncate=request.truncate)


def _response(scores: Scores) -> RankingResponse:
    logits = scores.logits
    order = np.argsort(-logits, kind="stable")
    tokens = int(scores.tokens.sum())
    return RankingResponse(
        rankings=[Ranking(index=int(index), logit=float(logits[index])) for index in order],
        usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
    )


def create_app(service: Service) -> FastAPI:
    """Make the web application around a service; the service starts and closes with it.

    Args:
        service: What answers.

    Returns:
        An ASGI application.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    # The pages that FastAPI would show for the document load scripts from elsewhere; the document itself stays.
    app = FastAPI(title="Stand-in for an NVIDIA reranking NIM", lifespan=lifespan, docs_url=None, redoc_url=None)
    _add_error_answers(app, service.behaviour)
    _add_status_routes(app, service)
    _add_ranking_routes(app, service)
    return app


def _add_error_answers(app: FastAPI, behaviour: Behaviour) -> None:
    @app.exception_handler(RefusalError)
    async def refuse(_: Request, error: RefusalError) -> JSONResponse:
        return JSONResponse(error.body, error.status)

    @app.exception_handler(RequestValidationError)
    async def refuse_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        refusal = invalid_request(behaviour.invalid, error.errors())
        if "json" not in request.headers.get("content-type", ""):
            refusal = RefusalError(behaviour.invalid, "Send the body as JSON, with Content-Type: application/json")
        return JSONResponse(refusal.body, refusal.status)

    @app.exception_handler(400)
    async def refuse_unreadable(_: Request, __: Exception) -> JSONResponse:
        # FastAPI raises a 400 for bytes that are not UTF-8 and for nesting too deep to parse.
        refusal = RefusalError(behaviour.invalid, "The request body cannot be read as JSON in UTF-8")
        return JSONResponse(refusal.body, refusal.status)


def _add_status_routes(app: FastAPI, service: Service) -> None:
    @app.get("/v1/health/live")
    async def live() -> dict[str, str]:
        return HEALTH["live"]

    @app.get("/v1/health/ready")
    async def ready() -> JSONResponse:
        if trouble := service.trouble():
            return JSONResponse({**HEALTH["not_ready"], "message": trouble}, service.behaviour.not_ready)
        return JSONResponse(HEALTH["ready"])

    @app.get("/v1/models")
    async def models() -> dict[str, str | list[dict[str, str]]]:
        return {"object": "list", "data": [{"id": model} for model in service.models]}


def _add_ranking_routes(app: FastAPI, service: Service) -> None:
    @app.post("/v1/ranking")
    async def ranking(request: RankingRequest) -> RankingResponse:
        return await service.rank(request, service.models)

    @app.post(hosted_path("{model:path}"), response_model=RankingResponse)
    async def hosted_ranking(model: str, request: RankingRequest) -> RankingResponse | Response:
        models = [served for served in service.models if hosted_path(served) == hosted_path(model)]
        if not models:
            return PlainTextResponse(UNKNOWN_PATH_TEXT, 404)
        return await service.rank(request, models)
