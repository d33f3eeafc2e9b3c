"""The routes of the stand-in: those of a NIM, the API catalog's paths for the same models, and the class's controls."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from nvrerank_helpers.connector import LATER_PATH, hosted_path
from nvrerank_helpers.nim_standin.asgi.disconnects import Hangups
from nvrerank_helpers.nim_standin.asgi.waiting import while_connected
from nvrerank_helpers.nim_standin.faults.deferred import later_router
from nvrerank_helpers.nim_standin.faults.injector import FaultInjector
from nvrerank_helpers.nim_standin.openai.routes import BODIES, CHAT_MODEL, EMBEDDING_MODEL, openai_router
from nvrerank_helpers.nim_standin.profiles import HEALTH, ONLY_NIM, Answer, Reason, RefusalError
from nvrerank_helpers.nim_standin.server.admin_routes import add_behaviour_route, control_router
from nvrerank_helpers.nim_standin.server.catalog_gateway import check_hosted, hosted_models
from nvrerank_helpers.nim_standin.server.metrics import Counting
from nvrerank_helpers.nim_standin.server.recorder import Recorder
from nvrerank_helpers.nim_standin.server.schemas import (
    Error,
    RankingRequest,
    RankingResponse,
    body_of,
    components,
    read,
)
from nvrerank_helpers.nim_standin.server.service import Service


class Health(BaseModel):
    """Whether the service lives, or works."""

    object: str
    message: str
    status: str


class ModelEntry(BaseModel):
    """A served model."""

    id: str


class ModelList(BaseModel):
    """The served models, rerankers first."""

    object: str = "list"
    data: list[ModelEntry]


class ModelInfo(BaseModel):
    """A served model, in the words of `/v1/metadata`."""

    shortName: str  # noqa: N815 - a name of the protocol
    modelUrl: str = ""  # noqa: N815


class Metadata(BaseModel):
    """What runs here."""

    modelInfo: list[ModelInfo]  # noqa: N815
    version: str
    selectedModelProfileId: str = "stand-in"  # noqa: N815


class NotFound(BaseModel):
    """There is nothing at this path."""

    detail: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Error | NotFound, "description": "Refused, with the reason"},
    "5XX": {"model": Error, "description": "Not answered now, with the reason"},
}
"""Documentation of what every route may answer; only the catalog's gateway has other shapes."""


def create_app(service: Service) -> FastAPI:
    """Make the web application around a service; the engine starts and closes with it.

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
    app = FastAPI(
        title="Stand-in for an NVIDIA reranking NIM",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_refusals(app, service)
    for router in (_status_router(service), _ranking_router(service), openai_router(service)):
        app.include_router(router, responses=REFUSALS, dependencies=[Depends(_Admission(service))])
    app.include_router(later_router(service.later), dependencies=[Depends(_Admission(service))])
    controls = control_router(service.plan, service.records)
    add_behaviour_route(controls, service)
    app.include_router(controls)
    _add_middleware(app, service)
    _describe(app)
    return app


def _add_middleware(app: FastAPI, service: Service) -> None:
    """Wrap the routes; what is added last is the outermost."""

    def answer_with(status: int, message: str) -> Answer:
        return service.behaviour.answer_with(status, message)

    app.add_middleware(FaultInjector, plan=service.plan, later=service.later, answer_with=answer_with)
    app.add_middleware(Hangups, seconds=service.time_limit)
    app.add_middleware(Counting, metrics=service.metrics, routes=frozenset(app.openapi()["paths"]))
    app.add_middleware(Recorder, records=service.records)


def _describe(app: FastAPI) -> None:
    """Put the bodies that the routes read themselves into `/openapi.json`."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    document["components"]["schemas"] |= components((RankingRequest, *BODIES))
    app.openapi_schema = document


def _add_refusals(app: FastAPI, service: Service) -> None:
    def refuse(_: Request, error: RefusalError) -> Response:
        answer = service.behaviour.answer(error)
        headers = dict(answer.headers)
        if isinstance(answer.body, dict):
            return JSONResponse(answer.body, answer.status, headers)
        if answer.body is None:
            return Response(None, answer.status, headers)
        return PlainTextResponse(answer.body, answer.status, headers)

    @app.exception_handler(RefusalError)
    async def refused(request: Request, error: RefusalError) -> Response:
        return refuse(request, error)

    @app.exception_handler(405)
    async def other_method(request: Request, _: HTTPException) -> Response:
        if service.behaviour.hosted and _is_off_catalog(request.url.path, service.models):
            return refuse(request, RefusalError(Reason.NO_PATH, "404 page not found"))

        def fits(method: str) -> bool:
            scope = {**request.scope, "method": method}
            return any(route.matches(scope)[0] == Match.FULL for route in app.routes)

        methods = filter(fits, ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))
        return JSONResponse({"detail": "Method Not Allowed"}, 405, {"Allow": ", ".join(methods)})

    @app.exception_handler(404)
    async def not_found(request: Request, _: HTTPException) -> Response:
        return refuse(request, RefusalError(Reason.NO_PATH, "Not Found"))


def _is_off_catalog(path: str, served: Collection[str]) -> bool:
    return path in ONLY_NIM or (path.startswith("/v1/retrieval/") and not hosted_models(path, served))


class _Admission:
    """Keeps a route as the behaviour in force has it: a NIM's are open, and the catalog wants a key and has fewer."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: Request) -> None:
        if not self._service.behaviour.hosted:
            return
        path = request.url.path
        if path in ONLY_NIM:
            raise RefusalError(Reason.NO_PATH, "404 page not found")
        if request.method == "POST":
            self._service.gateway.admit(request.headers.get("authorization"))
        elif path.startswith(LATER_PATH):
            self._service.gateway.check(request.headers.get("authorization"))  # asking again is not counted
        if path.startswith("/v1/retrieval/"):
            check_hosted(path, self._service.models)


def _status_router(service: Service) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/health/live")
    async def live() -> Health:
        return Health.model_validate(HEALTH["live"])

    @router.get("/v1/health/ready")
    async def ready(response: Response) -> Health:
        if trouble := service.engine.trouble():
            response.status_code = 503
            return Health.model_validate({**HEALTH["not_ready"], "message": trouble})
        return Health.model_validate(HEALTH["ready"])

    @router.get("/v1/models")
    async def models() -> ModelList:
        # The catalog's list, which is on another host, holds no rerankers.
        rerankers = () if service.behaviour.hosted else service.models
        return ModelList(data=[ModelEntry(id=model) for model in (*rerankers, CHAT_MODEL, EMBEDDING_MODEL)])

    @router.get("/v1/metadata")
    async def metadata() -> Metadata:
        # `modelInfo[0].shortName` is what clients were seen to read; the rest is the shape that other NIMs have.
        return Metadata(
            modelInfo=[ModelInfo(shortName=model) for model in service.models], version=service.behaviour.name
        )

    @router.get("/v1/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(service.metrics.text(), media_type=service.metrics.content_type)

    return router


def _ranking_router(service: Service) -> APIRouter:
    router = APIRouter()

    async def rank(request: Request, models: Collection[str]) -> RankingResponse:
        body = await read(request, RankingRequest, strict=service.behaviour.strict_fields)
        return await while_connected(request.receive, service.rank(body, models))

    @router.post("/v1/ranking", openapi_extra=body_of(RankingRequest))
    async def ranking(request: Request) -> RankingResponse:
        return await rank(request, service.models)

    @router.post(hosted_path("{model:path}"), openapi_extra=body_of(RankingRequest))
    async def hosted_ranking(model: str, request: Request) -> RankingResponse:
        models = hosted_models(hosted_path(model), service.models)
        if not models:
            raise RefusalError(Reason.NO_PATH, f"No model {model} is served here")
        return await rank(request, models)

    return router
