"""A reranking service on a real socket of this machine, which does exactly what a test tells it to.

Untold, it ranks: every passage's logit is the number that its text is (0 for an empty one), best first, ties in
input order.
"""

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "contract-model"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds: close() sends a reset


@dataclass(frozen=True)
class Reply:
    """One answer; `sent` limits how many bytes of it go out before the connection is reset."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None


@dataclass(frozen=True)
class Received:
    """One request as it came, with its time on the monotonic clock."""

    method: str
    path: str
    headers: Message
    body: dict
    at: float


Script = Callable[[dict], Reply]


def reply(body: object, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json"} | named)


def rankings(*pairs: tuple[object, object]) -> Reply:
    return reply({"rankings": [{"index": index, "logit": logit} for index, logit in pairs]})


def numbers(body: dict) -> list[tuple[int, float]]:
    return [(index, float(passage["text"] or 0)) for index, passage in enumerate(body["passages"])]


def best_first(body: dict) -> Reply:
    return rankings(*sorted(numbers(body), key=lambda pair: -pair[1]))


def as_sent(body: dict) -> Reply:
    return rankings(*numbers(body))


def last_first(body: dict) -> Reply:
    return rankings(*reversed(numbers(body)))


class Service:
    """What a test sees of the server.

    Attributes:
        next: Answers to the next ranking requests, one after the other.
        script: What makes the answers after those.
        received: Every request, in the order of arrival.
        address: Host and port.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.next: list[Reply | Script] = []
        self.script: Script = best_first
        self.received: list[Received] = []
        self.released = threading.Event()
        self._lock = threading.Lock()
        self._connections = threading.Condition()
        self._open = 0

    def count(self, connections: int) -> None:
        with self._connections:
            self._open += connections
            self._connections.notify_all()

    def is_left_alone(self) -> bool:
        """Tell whether every connection is closed, or will be within a second."""
        with self._connections:
            return self._connections.wait_for(lambda: self._open == 0, timeout=1)

    @property
    def rankings(self) -> list[Received]:
        return [request for request in self.received if request.method == "POST"]

    @property
    def batch_sizes(self) -> list[int]:
        return [len(request.body["passages"]) for request in self.rankings]

    def hold(self, body: dict) -> Reply:
        """Answer when the test is over, or after half a second: a client that does not give up gets its ranking."""
        self.released.wait(0.5)
        return best_first(body)

    def answer(self, request: Received) -> Reply:
        with self._lock:
            self.received.append(request)
            planned = self.next.pop(0) if self.next and request.method == "POST" else self.script
        match request.method, request.path:
            case "POST", "/v1/ranking":
                return planned if isinstance(planned, Reply) else planned(request.body)
            case "GET", "/v1/models":
                return reply({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        return reply({"detail": f"no route {request.path}"}, 404)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(body)

    def do_GET(self) -> None:
        self._answer({})

    def _answer(self, body: dict) -> None:
        request = Received(self.command, self.path, self.headers, body, time.monotonic())
        planned = self.server.service.answer(request)
        self.send_response(planned.status)
        for name, value in planned.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(planned.body)))
        if planned.sent is None:
            self.end_headers()
            self.wfile.write(planned.body)
        else:
            self._break_off(planned)

    def _break_off(self, planned: Reply) -> None:
        if planned.sent:
            self.end_headers()
            self.wfile.write(planned.body[: planned.sent])
            self.wfile.flush()
        self._headers_buffer = []
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    service: Service

    def process_request(self, request: socket.socket, client_address: object) -> None:
        self.service.count(+1)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        self.close_request(request)  # without the goodbye of a shutdown, so that a reset is one
        self.service.count(-1)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a client may hang up on us
            super().handle_error(request, client_address)


@contextmanager
def serving() -> Iterator[Service]:
    """Serve on a free port of this machine."""
    with Server(("127.0.0.1", 0), Handler) as server:
        server.service = Service(f"127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server.service
        finally:
            server.service.released.set()
            server.shutdown()
            thread.join()
