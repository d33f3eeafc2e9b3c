"""The routes under `/stand-in`, for lessons and tests: no NIM has them."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

from nvrerank_helpers.nim_standin.asgi.disconnects import replay
from nvrerank_helpers.nim_standin.faults.plan import FaultPlan, FaultPlanState
from nvrerank_helpers.nim_standin.faults.specs import Fault, FaultError, Seed
from nvrerank_helpers.nim_standin.profiles import PROFILES, RefusalError
from nvrerank_helpers.nim_standin.server.recorder import RecordedRequest, RequestLog
from nvrerank_helpers.nim_standin.server.schemas import ErrorBody, locate, read_bytes
from nvrerank_helpers.nim_standin.server.service import StandInService

CONTROL_PREFIX = "/stand-in"

MAX_CONTROL_BYTES = 2**20
"""The largest body that is read; a plan of 100 faults has a hundredth of it."""


class PlanRequest(BaseModel):
    """The fault plan that replaces the present one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    faults: Annotated[list[Fault], Field(max_length=100)]
    seed: Seed = 0


class ProfileRequest(BaseModel):
    """What to imitate."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(json_schema_extra={"enum": list(PROFILES)})]

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name not in PROFILES:
            raise PydanticCustomError("behaviour", "There is no such behaviour: choose " + ", ".join(PROFILES))
        return name


class ProfileState(BaseModel):
    """What the service imitates, and what else it could."""

    name: str
    choices: list[str]


class ControlRoute(APIRoute):
    """A route for small bodies that refuses in the same way, whatever the service imitates elsewhere."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Render FastAPI's own refusals."""
        answer = super().get_route_handler()

        async def answer_or_refuse(request: Request) -> Response:
            try:
                body = await read_bytes(request, MAX_CONTROL_BYTES)
                message = {"type": "http.request", "body": body, "more_body": False}
                return await answer(Request(request.scope, replay([message], request.receive)))
            except RefusalError as error:
                return _refuse(413, error.message)
            except RequestValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, locate(first)))
                return _refuse(422, f"{place}: {first['msg']}")
            except HTTPException as error:
                return _refuse(422 if error.status_code == 400 else error.status_code, str(error.detail))

        return answer_or_refuse


def _refuse(status: int, message: str) -> JSONResponse:
    return JSONResponse(ErrorBody(message=message).model_dump(), status)


def _describe_refusals(descriptions: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    all_descriptions = {413: "More than a megabyte", 415: "Not sent as JSON", **descriptions}
    return {status: {"model": ErrorBody, "description": text} for status, text in sorted(all_descriptions.items())}


def refuse_web_pages(request: Request) -> None:
    """Refuse requests from pages in a browser: any page may post to services of the machine it is read on.

    A browser names the page in `Origin`. It also asks first whether a page from another origin may send JSON, and
    no route here allows that.
    """
    if "origin" in request.headers:
        raise HTTPException(403, "Web pages may not control the stand-in: use StandInControl, or curl.")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method in {"POST", "PUT"} and media_type != "application/json":
        raise HTTPException(415, "Send the body as JSON, with Content-Type: application/json.")


def build_control_router(plan: FaultPlan, log: RequestLog) -> APIRouter:
    """Build the routes `/stand-in/faults` and `/stand-in/requests`; routes added later are guarded in the same way."""
    router = APIRouter(
        prefix=CONTROL_PREFIX,
        route_class=ControlRoute,
        dependencies=[Depends(refuse_web_pages)],
        responses={403: {"model": ErrorBody, "description": "Sent by a web page"}},
    )

    @router.get("/faults", response_model_exclude_none=True)
    async def show_faults() -> FaultPlanState:
        """Show the active faults, and how many requests each of them has touched."""
        return plan.state

    refusals = _describe_refusals({409: "The shares add up to more than 1", 422: "Not a plan of faults"})

    @router.post("/faults", response_model_exclude_none=True, responses=refusals)
    async def set_faults(wanted: PlanRequest) -> FaultPlanState:
        """Replace the fault plan."""
        try:
            plan.set(wanted.faults, wanted.seed)
        except FaultError as error:
            raise HTTPException(409, str(error)) from error
        return plan.state

    @router.delete("/faults", status_code=204)
    async def clear_faults() -> None:
        """Remove all faults."""
        plan.set()

    @router.get("/requests")
    async def show_requests() -> list[RecordedRequest]:
        """Show the last 100 requests for ranking, chat and embeddings, the oldest first."""
        return log.all()

    @router.delete("/requests", status_code=204)
    async def forget_requests() -> None:
        """Forget the requests."""
        log.clear()

    return router


def add_profile_route(router: APIRouter, service: StandInService) -> None:
    """Add `/stand-in/behaviour`, which shows and switches the active profile."""

    def describe() -> ProfileState:
        return ProfileState(name=service.profile.name, choices=list(PROFILES))

    @router.get("/behaviour")
    async def show_behaviour() -> ProfileState:
        """Show what the service imitates, and what else it could."""
        return describe()

    @router.put("/behaviour", responses=_describe_refusals({422: "There is no such behaviour"}))
    async def switch_behaviour(wanted: ProfileRequest) -> ProfileState:
        """Imitate another service from the next request on."""
        service.profile = PROFILES[wanted.name]
        return describe()
