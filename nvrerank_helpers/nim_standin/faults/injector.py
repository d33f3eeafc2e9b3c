"""Middleware that makes the planned faults happen, between the server and the routes."""

import asyncio
import http.client
from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from nvrerank_helpers.nim_standin.asgi.disconnects import read_ahead, replay, run_until_disconnect
from nvrerank_helpers.nim_standin.asgi.responses import BufferedResponse, buffer_error, buffer_response
from nvrerank_helpers.nim_standin.asgi.sockets import reset_connection
from nvrerank_helpers.nim_standin.faults.corruption import corrupt
from nvrerank_helpers.nim_standin.faults.deferred import PendingResponses
from nvrerank_helpers.nim_standin.faults.plan import FaultDraw, FaultPlan
from nvrerank_helpers.nim_standin.faults.specs import (
    MAX_SECONDS,
    AnswerFault,
    DeferredFault,
    FaultError,
    Outcome,
    ResetFault,
    StatusFault,
    is_inference,
    parse_fault,
)
from nvrerank_helpers.nim_standin.profiles import MAX_BODY_BYTES, NIM_1_10, ErrorResponse

HEADER = "X-Stand-In-Fault"
"""In a request: faults of this request alone, one per line, instead of the plan's. In a response: the fault it met."""

RenderStatus = Callable[[int, str], ErrorResponse]

_NAME = HEADER.lower().encode()
_WITHOUT_BODY = {HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED}


class FaultInjector:
    """Pure ASGI middleware that injects the faults of a plan.

    A request without a fault passes untouched, streams included. Where a response is corrupted, broken off or
    deferred, the application answers first, and the injector buffers its response.

    Args:
        pending: Where deferred responses are kept.
        render_status: Renders a status with a message, as the service would.
    """

    def __init__(
        self,
        app: ASGIApp,
        plan: FaultPlan,
        pending: PendingResponses,
        render_status: RenderStatus = NIM_1_10.render_status,
    ) -> None:
        self._app = app
        self._plan = plan
        self._pending = pending
        self._render_status = render_status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or not is_inference(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            draw = self._draw(scope)
        except FaultError as error:
            await _drain(receive)
            await buffer_error(NIM_1_10.render_status(400, f"{HEADER}: {error}")).send(send)
            return
        if draw.delay:
            receive = await _delay(min(draw.delay, MAX_SECONDS), receive)
        if draw.fault is None:
            await self._app(scope, receive, send)
        elif isinstance(draw.fault, StatusFault):
            await _drain(receive)
            await _mark(self._make_status(draw.fault), draw.fault).send(send)
        elif isinstance(draw.fault, ResetFault):
            await self._reset(draw.fault, scope, receive, send)
        else:
            response = await buffer_response(self._app, scope, receive)
            await self._change(response, draw.fault, draw).send(send)

    def _draw(self, scope: Scope) -> FaultDraw:
        own = [parse_fault(value.decode("latin-1")) for name, value in scope["headers"] if name == _NAME]
        if any(fault.model_fields_set & {"share", "times"} for fault in own):
            raise FaultError("share= and times= belong in a plan; a header is about its own request.")
        return self._plan.draw(scope["path"], own)

    async def _reset(self, fault: ResetFault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.reset == "before":
            await _drain(receive)
        else:
            response = _mark(await buffer_response(self._app, scope, receive), fault)
            half = response.body[: len(response.body) // 2]
            await response.start(send)
            await send({"type": "http.response.body", "body": half, "more_body": True})
        await reset_connection(scope, receive)

    def _make_status(self, fault: StatusFault) -> BufferedResponse:
        headers = [(b"retry-after", fault.retry_after.encode())] if fault.retry_after else []
        if fault.status in _WITHOUT_BODY:
            return BufferedResponse(fault.status, headers)
        name = http.client.responses.get(fault.status, "this status")
        return buffer_error(self._render_status(fault.status, f"{name}: a fault was set on the stand-in"), headers)

    def _change(
        self, response: BufferedResponse, fault: AnswerFault | DeferredFault, draw: FaultDraw
    ) -> BufferedResponse:
        if response.status != HTTPStatus.OK:
            return response
        if isinstance(fault, DeferredFault):
            return _mark(self._pending.keep(response, fault.later), fault)
        wrong = corrupt(response, fault.answer, draw.rng)
        return response if wrong.body == response.body else _mark(wrong, fault)


def _mark(response: BufferedResponse, fault: Outcome) -> BufferedResponse:
    """Name the fault in a header, for whoever looks for the cause of an error."""
    return BufferedResponse(response.status, [*response.headers, (_NAME, str(fault).encode())], response.body)


async def _delay(seconds: float, receive: Receive) -> Receive:
    """Wait as long as the client does; the server reports a disconnect only after the body, so that is read first."""
    messages = await read_ahead(receive, MAX_BODY_BYTES)
    if not messages[-1].get("more_body", False):  # a body that is too long is refused without delay
        await run_until_disconnect(receive, asyncio.sleep(seconds))
    return replay(messages, receive)


async def _drain(receive: Receive) -> None:
    """Read the request to its end, so that the connection can carry the next one and the recorder sees all of it."""
    while (await receive()).get("more_body", False):
        pass
