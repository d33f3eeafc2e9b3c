"""A stand-in without a model: it ranks passages by the number that each text is, behind the real fault machinery."""

import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse

from nvrerank_helpers.nim_standin.asgi.sockets import ResettableProtocol
from nvrerank_helpers.nim_standin.faults.deferred import PendingResponses, build_deferred_router
from nvrerank_helpers.nim_standin.faults.injector import FaultInjector
from nvrerank_helpers.nim_standin.faults.plan import FaultPlan
from nvrerank_helpers.nim_standin.faults.specs import parse_fault
from nvrerank_helpers.nim_standin.profiles import NIM_1_10
from nvrerank_helpers.nim_standin.server.admin_routes import add_profile_route, build_control_router
from nvrerank_helpers.nim_standin.server.recorder import Recorder, RequestLog

BODY = {"query": {"text": "q"}, "passages": [{"text": "1"}, {"text": "3"}, {"text": "2"}]}
RANKINGS = [{"index": 1, "logit": 3.0}, {"index": 2, "logit": 2.0}, {"index": 0, "logit": 1.0}]


class TinyStandIn:
    """The application, and what is behind it.

    Attributes:
        chunks: The pieces that the chat route streams; it may wait in between.
    """

    def __init__(self) -> None:
        self.plan, self.log, self.pending = FaultPlan(), RequestLog(), PendingResponses()
        self.profile = NIM_1_10
        self.chunks: AsyncIterator[bytes] | None = None
        self.app = FastAPI()
        self._add_routes()
        router = build_control_router(self.plan, self.log)
        add_profile_route(router, self)
        self.app.include_router(router)
        self.app.include_router(build_deferred_router(self.pending))
        self.app.add_middleware(FaultInjector, plan=self.plan, pending=self.pending)
        self.app.add_middleware(Recorder, log=self.log)

    def _add_routes(self) -> None:
        @self.app.get("/v1/health/ready")
        async def ready() -> dict[str, str]:
            return {"status": "ready"}

        @self.app.post("/v1/ranking")
        @self.app.post("/v1/retrieval/nvidia/some-model/reranking")
        async def ranking(request: Request) -> dict[str, Any]:
            try:
                passages = (await request.json())["passages"]
            except (ValueError, KeyError) as error:
                raise HTTPException(400, "no request") from error
            if not passages:
                raise HTTPException(422, "no passages")
            logits = [float(passage["text"]) for passage in passages]
            order = sorted(range(len(logits)), key=lambda index: -logits[index])
            return {"rankings": [{"index": index, "logit": logits[index]} for index in order]}

        @self.app.post("/v1/chat/completions")
        async def chat() -> StreamingResponse:
            assert self.chunks
            return StreamingResponse(self.chunks, media_type="text/event-stream")

    def inject(self, *texts: str, seed: int = 0) -> None:
        self.plan.set(map(parse_fault, texts), seed)

    def client(self) -> httpx.AsyncClient:
        """Ask it without a socket."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://standin")

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve it on a real socket of this machine, and say where."""
        config = uvicorn.Config(self.app, http=ResettableProtocol, log_config=None, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listener:  # it takes connections before the server does
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join()
