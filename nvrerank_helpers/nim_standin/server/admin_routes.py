"""The routes under `/stand-in` that a teacher or a test works with: no NIM has them."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException

from nvrerank_helpers.nim_standin.asgi.waiting import replayed
from nvrerank_helpers.nim_standin.faults.plan import Plan, PlanState
from nvrerank_helpers.nim_standin.faults.specs import Fault, FaultError, Seed
from nvrerank_helpers.nim_standin.profiles import BEHAVIOURS, RefusalError
from nvrerank_helpers.nim_standin.server.recorder import Recorded, Records
from nvrerank_helpers.nim_standin.server.schemas import Error, place_of, whole_body
from nvrerank_helpers.nim_standin.server.service import Service

CONTROL_PREFIX = "/stand-in"

MAX_CONTROL_BYTES = 2**20
"""The largest body that is read; a plan of 100 faults has a hundredth of it."""


class PlanRequest(BaseModel):
    """The plan of faults to put in the place of the present one."""

    model_config = ConfigDict(extra="forbid", strict=True)

    faults: Annotated[list[Fault], Field(max_length=100)]
    seed: Seed = 0


class BehaviourRequest(BaseModel):
    """What to imitate."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(json_schema_extra={"enum": list(BEHAVIOURS)})]

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in BEHAVIOURS:
            raise PydanticCustomError("behaviour", "There is no such behaviour: choose " + ", ".join(BEHAVIOURS))
        return name


class BehaviourState(BaseModel):
    """What the service imitates, and what else it could."""

    name: str
    choices: list[str]


class ControlRoute(APIRoute):
    """A route for small bodies that refuses in one way, whichever behaviour the service imitates elsewhere."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """Put FastAPI's own refusals in words."""
        answer = super().get_route_handler()

        async def answer_or_refuse(request: Request) -> Response:
            try:
                body = await whole_body(request, MAX_CONTROL_BYTES)
                message = {"type": "http.request", "body": body, "more_body": False}
                return await answer(Request(request.scope, replayed([message], request.receive)))
            except RefusalError as error:
                return _refusal(413, error.message)
            except RequestValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, place_of(first)))
                return _refusal(422, f"{place}: {first['msg']}")
            except HTTPException as error:
                return _refusal(422 if error.status_code == 400 else error.status_code, str(error.detail))

        return answer_or_refuse


def _refusal(status: int, message: str) -> JSONResponse:
    return JSONResponse(Error(message=message).model_dump(), status)


def refuse_web_pages(request: Request) -> None:
    """Refuse what a page in a browser sends: any page may post to services of the machine it is read on.

    A browser names the page in `Origin`. It also asks first whether a page of elsewhere may send JSON, and nothing
    here answers that it may.
    """
    if "origin" in request.headers:
        raise HTTPException(403, "Web pages may not control the stand-in: use StandInControl, or curl.")
    if request.method in {"POST", "PUT"} and _media_type(request) != "application/json":
        raise HTTPException(415, "Send the body as JSON, with Content-Type: application/json.")


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def control_router(plan: Plan, records: Records) -> APIRouter:
    """Make the routes that set faults and show what came.

    Args:
        plan: The plan that the fault injector draws from.
        records: What the recorder keeps.

    Returns:
        A router for `/stand-in/faults` and `/stand-in/requests`; routes added to it are guarded like those.
    """
    router = APIRouter(
        prefix=CONTROL_PREFIX,
        route_class=ControlRoute,
        dependencies=[Depends(refuse_web_pages)],
        responses={403: {"model": Error, "description": "Sent by a web page"}},
    )
    _add_fault_routes(router, plan)
    _add_record_routes(router, records)
    return router


def _add_fault_routes(router: APIRouter, plan: Plan) -> None:
    @router.get("/faults", response_model_exclude_none=True)
    async def show_faults() -> PlanState:
        """Show the faults in force, and how many requests each of them has touched."""
        return plan.state

    @router.post(
        "/faults",
        response_model_exclude_none=True,
        responses={
            409: {"model": Error, "description": "The shares add up to more than 1"},
            413: {"model": Error, "description": "More than a megabyte"},
            415: {"model": Error, "description": "Not sent as JSON"},
            422: {"model": Error, "description": "Not a plan of faults"},
        },
    )
    async def set_faults(wanted: PlanRequest) -> PlanState:
        """Put a plan of faults in the place of the present one."""
        try:
            plan.set(wanted.faults, wanted.seed)
        except FaultError as error:
            raise HTTPException(409, str(error)) from error
        return plan.state

    @router.delete("/faults", status_code=204)
    async def clear_faults() -> None:
        """Take all faults away."""
        plan.set()


def _add_record_routes(router: APIRouter, records: Records) -> None:
    @router.get("/requests")
    async def show_requests() -> list[Recorded]:
        """Show the last 100 requests for ranking, chat and embeddings, the oldest first."""
        return records.all()

    @router.delete("/requests", status_code=204)
    async def forget_requests() -> None:
        """Forget the requests."""
        records.clear()


def add_behaviour_route(router: APIRouter, service: Service) -> None:
    """Add the route that shows and switches the behaviour in force.

    Args:
        router: What `control_router` made.
        service: Whose behaviour it is.
    """

    def state() -> BehaviourState:
        return BehaviourState(name=service.behaviour.name, choices=list(BEHAVIOURS))

    @router.get("/behaviour")
    async def show_behaviour() -> BehaviourState:
        """Show what the service imitates, and what else it could."""
        return state()

    @router.put(
        "/behaviour",
        responses={
            413: {"model": Error, "description": "More than a megabyte"},
            415: {"model": Error, "description": "Not sent as JSON"},
            422: {"model": Error, "description": "There is no such behaviour"},
        },
    )
    async def switch_behaviour(wanted: BehaviourRequest) -> BehaviourState:
        """Imitate another service from the next request on."""
        service.behaviour = BEHAVIOURS[wanted.name]
        return state()
