"""Deferred responses: status 202 now and the response later, as NVIDIA's API catalog answers under load."""

import time
import uuid
from contextlib import suppress
from typing import NamedTuple

from cachetools import LRUCache
from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from nvrerank_helpers.connector import LATER_PATH
from nvrerank_helpers.nim_standin.asgi.responses import BufferedResponse

MAX_BYTES = 64 * 2**20
"""Responses that nobody fetches are dropped beyond this size, the least recently used first."""

OVERHEAD = 64 * 2**10
"""Bytes that every response counts for besides its body: it limits their number to 1,024."""


class _Pending(NamedTuple):
    response: BufferedResponse
    ready_at: float

    def count_bytes(self) -> int:
        return len(self.response.body) + OVERHEAD


class PendingResponses:
    """Keeps each response until it is fetched."""

    def __init__(self) -> None:
        self._pending: LRUCache[str, _Pending] = LRUCache(MAX_BYTES, getsizeof=_Pending.count_bytes)

    def keep(self, response: BufferedResponse, seconds: float) -> BufferedResponse:
        """Keep a response, and return the 202 to send instead, with its id in `NVCF-REQID`."""
        request_id = str(uuid.uuid4())
        with suppress(ValueError):  # larger than the whole cache
            self._pending[request_id] = _Pending(response, time.monotonic() + seconds)
        return _accept(request_id)

    def fetch(self, request_id: str) -> BufferedResponse | None:
        """Return and drop the response, or return the 202 again; None for an unknown id."""
        pending = self._pending.get(request_id)
        if pending is None:
            return None
        if time.monotonic() < pending.ready_at:
            return _accept(request_id)
        del self._pending[request_id]
        return pending.response


def _accept(request_id: str) -> BufferedResponse:
    return BufferedResponse(202, [(b"nvcf-reqid", request_id.encode()), (b"content-length", b"0")])


def build_deferred_router(pending: PendingResponses) -> APIRouter:
    """Build the router with `GET /v2/nvcf/pexec/status/{request_id}`, where deferred responses are fetched."""
    router = APIRouter()

    @router.get(
        f"{LATER_PATH}{{request_id}}",
        response_class=Response,
        responses={
            200: {"description": "The deferred response", "content": {"application/json": {}}},
            202: {"description": "Not ready yet: ask again"},
            404: {"description": "No response of this id was deferred, or it has been fetched"},
        },
    )
    async def fetch(request_id: str) -> Response:
        response = pending.fetch(request_id)
        if response is None:
            detail = f"No answer is kept for request id {request_id[:64]!r}"
            return JSONResponse({"status": 404, "title": "Not Found", "detail": detail}, 404)
        return response.to_starlette()

    return router
