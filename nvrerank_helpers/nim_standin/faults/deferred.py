"""Answers promised for later with status 202, as NVIDIA's API catalog does under load."""

import time
import uuid
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from nvrerank_helpers.connector import LATER_PATH
from nvrerank_helpers.minilm import ByteCache
from nvrerank_helpers.nim_standin.asgi.answer import Answer

MOST_BYTES = 64 * 2**20
"""Answers that nobody fetches are forgotten beyond this size, those that nobody asked for longest first."""

OVERHEAD = 64 * 2**10
"""Bytes that every answer counts for besides its body: it bounds their number to 1024."""


@dataclass(frozen=True)
class _Kept:
    answer: Answer
    ready_at: float

    @property
    def nbytes(self) -> int:
        """Bytes that the answer counts for."""
        return len(self.answer.body) + OVERHEAD


class LaterAnswers:
    """Keeps each answer until it is fetched.

    Example:
        >>> answers = LaterAnswers()
        >>> promise = answers.keep(Answer(200, []), seconds=0)
        >>> answers.fetch(dict(promise.headers)[b"nvcf-reqid"].decode()).status
        200
    """

    def __init__(self) -> None:
        self._kept: ByteCache[_Kept] = ByteCache(MOST_BYTES)

    def keep(self, answer: Answer, seconds: float) -> Answer:
        """Keep an answer, and return the promise to send in its place: 202, its id in `NVCF-REQID`, no body."""
        request_id = str(uuid.uuid4())
        self._kept.put(request_id, _Kept(answer, time.monotonic() + seconds))
        return _promise(request_id)

    def fetch(self, request_id: str) -> Answer | None:
        """Return the answer, which is forgotten then, or the promise again; None for an id that is not known."""
        kept = self._kept.get(request_id)
        if kept is None:
            return None
        if time.monotonic() < kept.ready_at:
            return _promise(request_id)
        self._kept.pop(request_id)
        return kept.answer


def _promise(request_id: str) -> Answer:
    return Answer(202, [(b"nvcf-reqid", request_id.encode()), (b"content-length", b"0")])


def later_router(answers: LaterAnswers) -> APIRouter:
    """Make the route at which promised answers are fetched.

    Args:
        answers: The store that the fault injector keeps them in.

    Returns:
        A router with `GET /v2/nvcf/pexec/status/{request_id}`.
    """
    router = APIRouter()

    @router.get(
        f"{LATER_PATH}{{request_id}}",
        response_class=Response,
        responses={
            200: {"description": "The answer that was promised", "content": {"application/json": {}}},
            202: {"description": "Not there yet: ask again"},
            404: {"description": "No answer of this id was promised, or it has been fetched"},
        },
    )
    async def fetch(request_id: str) -> Response:
        answer = answers.fetch(request_id)
        if answer is None:
            detail = f"No answer is kept for request id {request_id[:64]!r}"
            return JSONResponse({"status": 404, "title": "Not Found", "detail": detail}, 404)
        response = Response(answer.body, answer.status)
        response.raw_headers = list(answer.headers)
        return response

    return router
