"""Makes the planned faults happen, between the server and the routes."""

import asyncio
import http.client
from collections.abc import Callable, Sequence
from http import HTTPStatus

from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nvrerank_helpers.nim_standin import profiles
from nvrerank_helpers.nim_standin.asgi.answer import Answer, Header
from nvrerank_helpers.nim_standin.asgi.sockets import reset_connection
from nvrerank_helpers.nim_standin.asgi.waiting import read_ahead, replayed, while_connected
from nvrerank_helpers.nim_standin.faults.corruption import spoilt
from nvrerank_helpers.nim_standin.faults.deferred import LaterAnswers
from nvrerank_helpers.nim_standin.faults.plan import Draw, Plan
from nvrerank_helpers.nim_standin.faults.specs import (
    MOST_SECONDS,
    AnswerFault,
    FaultError,
    LaterFault,
    Outcome,
    ResetFault,
    StatusFault,
    is_inference,
    parse_fault,
)
from nvrerank_helpers.nim_standin.profiles import MAX_BODY_BYTES, NIM_1_10

HEADER = "X-Stand-In-Fault"
"""In a request: faults of this request alone, one a line, in place of the plan's. In an answer: the fault it met."""

AnswerWith = Callable[[int, str], profiles.Answer]

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
        answer_with: Words a status, given a message, as the service would.

    Example:
        >>> from fastapi import FastAPI
        >>> app = FaultInjector(FastAPI(), plan=Plan(), later=LaterAnswers())
    """

    def __init__(
        self, app: ASGIApp, plan: Plan, later: LaterAnswers, answer_with: AnswerWith = NIM_1_10.answer_with
    ) -> None:
        self._app = app
        self._plan = plan
        self._later = later
        self._answer_with = answer_with

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or not is_inference(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            draw = self._draw(scope)
        except FaultError as error:
            await _drain(receive)
            await _http_answer(NIM_1_10.answer_with(400, f"{HEADER}: {error}")).send(send)
            return
        if draw.delay:
            receive = await _put_off(min(draw.delay, MOST_SECONDS), receive)
        if draw.fault is None:
            await self._app(scope, receive, send)
        elif isinstance(draw.fault, StatusFault):
            await _drain(receive)
            await _marked(self._status_answer(draw.fault), draw.fault).send(send)
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

    def _status_answer(self, fault: StatusFault) -> Answer:
        headers = [(b"retry-after", fault.retry_after.encode())] if fault.retry_after else []
        if fault.status in _WITHOUT_BODY:
            return Answer(fault.status, headers)
        name = http.client.responses.get(fault.status, "this status")
        return _http_answer(self._answer_with(fault.status, f"{name}: a fault was set on the stand-in"), headers)

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


async def _put_off(seconds: float, receive: Receive) -> Receive:
    """Wait as long as the client does; its body is read first, for only behind it the server tells that it left."""
    messages = await read_ahead(receive, MAX_BODY_BYTES)
    if not messages[-1].get("more_body", False):  # one that is too long is refused without delay
        await while_connected(receive, asyncio.sleep(seconds))
    return replayed(messages, receive)


def _http_answer(worded: profiles.Answer, headers: Sequence[Header] = ()) -> Answer:
    told = [(name.lower().encode(), value.encode()) for name, value in worded.headers.items()]
    answer = Answer(worded.status, [*told, *headers])
    if isinstance(worded.body, dict):
        return answer.with_body(to_json(worded.body), b"application/json")
    return answer.with_body((worded.body or "").encode(), b"text/plain; charset=utf-8" if worded.body else None)


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
