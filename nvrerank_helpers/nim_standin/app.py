"""The web application: a NIM's routes, the API catalog's paths for the same models, and the controls."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from nvrerank_helpers.connector import LATER_PATH, build_catalog_path
from nvrerank_helpers.nim_standin.asgi.disconnects import BodyTimeout, run_until_disconnect
from nvrerank_helpers.nim_standin.asgi.responses import buffer_error
from nvrerank_helpers.nim_standin.faults.deferred import build_deferred_router
from nvrerank_helpers.nim_standin.faults.injector import FaultInjector
from nvrerank_helpers.nim_standin.openai.routes import BODIES, build_openai_router
from nvrerank_helpers.nim_standin.openai.schemas import CHAT_MODEL, EMBEDDING_MODEL
from nvrerank_helpers.nim_standin.profiles import HEALTH, NIM_ONLY_PATHS, ErrorResponse, Reason, RefusalError
from nvrerank_helpers.nim_standin.server.admin_routes import add_profile_route, build_control_router
from nvrerank_helpers.nim_standin.server.catalog_gateway import check_hosted_path, find_hosted_models
from nvrerank_helpers.nim_standin.server.metrics import RequestCounter
from nvrerank_helpers.nim_standin.server.recorder import Recorder
from nvrerank_helpers.nim_standin.server.schemas import (
    ErrorBody,
    RankingRequest,
    RankingResponse,
    describe_body,
    describe_schemas,
    parse_body,
)
from nvrerank_helpers.nim_standin.server.service import StandInService


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
    """A served model, as `/v1/metadata` describes it."""

    shortName: str  # noqa: N815 - a name of the protocol
    modelUrl: str = ""  # noqa: N815


class Metadata(BaseModel):
    """What runs here."""

    modelInfo: list[ModelInfo]  # noqa: N815
    version: str
    selectedModelProfileId: str = "stand-in"  # noqa: N815


class NotFoundBody(BaseModel):
    """There is nothing at this path."""

    detail: str


REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody | NotFoundBody, "description": "Refused, with the reason"},
    "5XX": {"model": ErrorBody, "description": "Not answered now, with the reason"},
}
"""Documents what every route may answer; only the catalog's gateway has other shapes."""


def create_app(service: StandInService) -> FastAPI:
    """Create the ASGI application around a service, whose engine starts and closes with it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    # FastAPI's pages for the document load scripts from elsewhere; only the document itself is served.
    app = FastAPI(
        title="Stand-in for an NVIDIA reranking NIM",
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_error_handlers(app, service)
    for router in (_build_status_router(service), _build_ranking_router(service), build_openai_router(service)):
        app.include_router(router, responses=REFUSALS, dependencies=[Depends(_Admission(service))])
    app.include_router(build_deferred_router(service.pending), dependencies=[Depends(_Admission(service))])
    controls = build_control_router(service.plan, service.log)
    add_profile_route(controls, service)
    app.include_router(controls)
    _add_middleware(app, service)
    _describe_bodies(app)
    return app


def _add_middleware(app: FastAPI, service: StandInService) -> None:
    """Wrap the routes; what is added last is the outermost."""

    def render_status(status: int, message: str) -> ErrorResponse:
        return service.profile.render_status(status, message)

    app.add_middleware(FaultInjector, plan=service.plan, pending=service.pending, render_status=render_status)
    app.add_middleware(BodyTimeout, seconds=service.time_limit)
    app.add_middleware(RequestCounter, metrics=service.metrics, routes=frozenset(app.openapi()["paths"]))
    app.add_middleware(Recorder, log=service.log)


def _describe_bodies(app: FastAPI) -> None:
    """Add the bodies that the routes read themselves to `/openapi.json`."""
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    document["components"]["schemas"] |= describe_schemas((RankingRequest, *BODIES))
    app.openapi_schema = document


def _add_error_handlers(app: FastAPI, service: StandInService) -> None:
    @app.exception_handler(RefusalError)
    async def refuse(_: Request, error: RefusalError) -> Response:
        return buffer_error(service.profile.render(error)).to_starlette()

    @app.exception_handler(404)
    async def refuse_path(request: Request, _: HTTPException) -> Response:
        return await refuse(request, RefusalError(Reason.NO_PATH, "Not Found"))

    @app.exception_handler(405)
    async def refuse_method(request: Request, error: HTTPException) -> Response:
        if service.profile.hosted and _is_off_catalog(request.url.path, service.models):
            return await refuse_path(request, error)

        def fits(method: str) -> bool:
            scope = {**request.scope, "method": method}
            return any(route.matches(scope)[0] == Match.FULL for route in app.routes)

        methods = filter(fits, ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))
        return JSONResponse({"detail": "Method Not Allowed"}, 405, {"Allow": ", ".join(methods)})


def _is_off_catalog(path: str, served: Collection[str]) -> bool:
    return path in NIM_ONLY_PATHS or (path.startswith("/v1/retrieval/") and not find_hosted_models(path, served))


class _Admission:
    """A dependency of every route: a NIM's are open, while the catalog requires a key and has fewer routes."""

    def __init__(self, service: StandInService) -> None:
        self._service = service

    async def __call__(self, request: Request) -> None:
        if not self._service.profile.hosted:
            return
        path = request.url.path
        if path in NIM_ONLY_PATHS:
            raise RefusalError(Reason.NO_PATH, "404 page not found")
        if request.method == "POST":
            self._service.gateway.admit(request.headers.get("authorization"))
        elif path.startswith(LATER_PATH):
            self._service.gateway.check(request.headers.get("authorization"))  # polling is not counted
        if path.startswith("/v1/retrieval/"):
            check_hosted_path(path, self._service.models)


def _build_status_router(service: StandInService) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/health/live")
    async def live() -> Health:
        return Health.model_validate(HEALTH["live"])

    @router.get("/v1/health/ready")
    async def ready(response: Response) -> Health:
        if trouble := service.engine.trouble:
            response.status_code = 503
            return Health.model_validate({**HEALTH["not_ready"], "message": trouble})
        return Health.model_validate(HEALTH["ready"])

    @router.get("/v1/models")
    async def models() -> ModelList:
        # The catalog's list, which is on another host, contains no rerankers.
        rerankers = () if service.profile.hosted else service.models
        return ModelList(data=[ModelEntry(id=model) for model in (*rerankers, CHAT_MODEL, EMBEDDING_MODEL)])

    @router.get("/v1/metadata")
    async def metadata() -> Metadata:
        # Clients were seen to read `modelInfo[0].shortName`; the rest is the shape that other NIMs have.
        return Metadata(
            modelInfo=[ModelInfo(shortName=model) for model in service.models], version=service.profile.name
        )

    @router.get("/v1/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(service.metrics.text(), media_type=service.metrics.content_type)

    return router


def _build_ranking_router(service: StandInService) -> APIRouter:
    router = APIRouter()

    async def rank(request: Request, models: Collection[str]) -> RankingResponse:
        body = await parse_body(request, RankingRequest, strict=service.profile.strict_fields)
        return await run_until_disconnect(request.receive, service.rank(body, models))

    @router.post("/v1/ranking", openapi_extra=describe_body(RankingRequest))
    async def rank_here(request: Request) -> RankingResponse:
        return await rank(request, service.models)

    @router.post(build_catalog_path("{model:path}"), openapi_extra=describe_body(RankingRequest))
    async def rank_at_catalog_path(model: str, request: Request) -> RankingResponse:
        models = find_hosted_models(build_catalog_path(model), service.models)
        if not models:
            raise RefusalError(Reason.NO_PATH, f"No model {model} is served here")
        return await rank(request, models)

    return router
