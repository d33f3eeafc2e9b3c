"""Makes the planned faults happen, between the server and the routes."""

import asyncio
import http.client
from http import HTTPStatus

from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nvrerank_helpers.nim_standin.faults import (
    AnswerFault,
    FaultError,
    LaterFault,
    Outcome,
    ResetFault,
    StatusFault,
    is_inference,
    parse_fault,
)
from nvrerank_helpers.nim_standin.later import LaterAnswers
from nvrerank_helpers.nim_standin.plan import Draw, Plan
from nvrerank_helpers.nim_standin.sockets import reset_connection
from nvrerank_helpers.nim_standin.spoiling import Answer, Header, spoilt

HEADER = "X-Stand-In-Fault"
"""In a request: faults of this request alone, one a line, in place of the plan's. In an answer: the fault it met."""

_NAME = HEADER.lower().encode()
_WITHOUT_BODY = {HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED}


class FaultInjector:
    """Pure ASGI middleware that lets requests meet the faults of a plan.

    A request that meets none passes untouched, streams included. Where an answer is spoilt, broken off or put off,
    the application behind answers first, and its whole answer is held until then.

    Args:
        app: The application behind it.
        plan: What to draw from.
        later: Where answers that were promised for later are kept.

    Example:
        >>> from fastapi import FastAPI
        >>> app = FaultInjector(FastAPI(), plan=Plan(), later=LaterAnswers())
    """

    def __init__(self, app: ASGIApp, plan: Plan, later: LaterAnswers) -> None:
        self._app = app
        self._plan = plan
        self._later = later

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or not is_inference(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            draw = self._draw(scope)
        except FaultError as error:
            await _drain(receive)
            await _error(400, f"{HEADER}: {error}").send(send)
            return
        if draw.delay:
            await asyncio.sleep(draw.delay)
        if draw.fault is None:
            await self._app(scope, receive, send)
        elif isinstance(draw.fault, StatusFault):
            await _drain(receive)
            await _marked(_status_answer(draw.fault), draw.fault).send(send)
        elif isinstance(draw.fault, ResetFault):
            await self._break_off(draw.fault, scope, receive, send)
        else:
            answer = await _whole_answer(self._app, scope, receive)
            await self._changed(answer, draw.fault, draw).send(send)

    def _draw(self, scope: Scope) -> Draw:
        own = [parse_fault(value.decode("latin-1")) for name, value in scope["headers"] if name == _NAME]
        if any(fault.model_fields_set & {"share", "times"} for fault in own):
            raise FaultError("share= and times= belong into a plan; a header is about its own request.")
        return self._plan.draw(scope["path"], own)

    async def _break_off(self, fault: ResetFault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.reset == "before":
            await _drain(receive)
        else:
            answer = _marked(await _whole_answer(self._app, scope, receive), fault)
            await answer.start(send)
            await send({"type": "http.response.body", "body": answer.body[: len(answer.body) // 2], "more_body": True})
        await reset_connection(scope, receive)

    def _changed(self, answer: Answer, fault: AnswerFault | LaterFault, draw: Draw) -> Answer:
        if answer.status != HTTPStatus.OK:
            return answer
        if isinstance(fault, LaterFault):
            return _marked(self._later.keep(answer, fault.later), fault)
        wrong = spoilt(answer, fault.answer, draw.rng)
        return answer if wrong.body == answer.body else _marked(wrong, fault)


def _marked(answer: Answer, fault: Outcome) -> Answer:
    """Say in the answer that it is wrong on purpose, for whoever looks for the cause of an error."""
    return Answer(answer.status, [*answer.headers, (_NAME, str(fault).encode())], answer.body)


def _status_answer(fault: StatusFault) -> Answer:
    headers = [(b"retry-after", fault.retry_after.encode())] if fault.retry_after else []
    if fault.status in _WITHOUT_BODY:
        return Answer(fault.status, headers)
    name = http.client.responses.get(fault.status, "this status")
    return _error(fault.status, f"{name}: a fault was set on the stand-in", headers)


def _error(status: int, message: str, headers: list[Header] | None = None) -> Answer:
    body = to_json({"object": "error", "message": message})
    return Answer(status, headers or []).with_body(body, b"application/json")


async def _drain(receive: Receive) -> None:
    """Read the request to its end, so that the connection can carry the next one and the recorder sees it whole."""
    while (await receive()).get("more_body", False):
        pass


async def _whole_answer(app: ASGIApp, scope: Scope, receive: Receive) -> Answer:
    status, headers, body = 0, [], bytearray()

    async def hold(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message.get("headers", []))
        else:
            body.extend(message.get("body", b""))

    await app(scope, receive, hold)
    return Answer(status, headers, bytes(body))
