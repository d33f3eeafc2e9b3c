"""A service on a real socket of this machine that answers with whatever bytes a test wants.

Unless a test says otherwise it ranks: the logit of a passage is the number that its text is, best first.
"""

import json
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds: close() sends a reset
PATIENCE = 60  # seconds; far more than anything here takes


@dataclass(frozen=True)
class Received:
    """One request as it came, with its time on the monotonic clock."""

    head: bytes
    body: bytes
    at: float = field(default_factory=time.monotonic)

    @property
    def method(self):
        return self.head.split(b" ", 1)[0].decode()

    @property
    def path(self):
        return self.head.split(b" ", 2)[1].decode()

    @property
    def headers(self):
        """The headers by their names in lower case."""
        lines = (line.partition(":") for line in self.head.decode("latin-1").split("\r\n")[1:-2])
        return {name.lower(): value.strip() for name, _, value in lines}

    @property
    def json(self):
        return json.loads(self.body)


@dataclass(frozen=True)
class Reset:
    """Sends the beginning of an answer, and then resets the connection."""

    sent: bytes = b""


class HttpFake:
    """The service as a test sees it.

    An answer is bytes, parts that are sent one by one, None (which closes the connection without a word), a `Reset`, or
    a function that makes one of these from the request. A connection stays open while both sides keep it.

    Attributes:
        models: What is listed at /v1/models; without them that is a 404, as is every other GET.
        next: Answers to the next requests that are no GET.
        script: The answer to the requests after those.
        received: Every request, in the order of arrival.
        over: Set at the end of the test; an answer may wait for it.
    """

    def __init__(self, script=None, tls=None, models=()):
        self.script, self.next, self.models = script or rank, [], models
        self.received, self.connections = [], 0
        self.over = threading.Event()
        self._tls = tls
        self._open, self._changed = set(), threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.origin = f"http{'s' if tls else ''}://{self.address}"
        self.base_url = f"{self.origin}/v1"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def rankings(self):
        return [request for request in self.received if request.method == "POST"]

    @property
    def heads(self):
        return [request.head for request in self.received]

    @property
    def batch_sizes(self):
        return [len(request.json["passages"]) for request in self.rankings]

    def is_left_alone(self):
        """Return whether every connection is closed, or will be soon."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, PATIENCE)

    def hold(self, request):
        """Answer when the test is over, or after half a second: a client that does not give up gets its ranking."""
        self.over.wait(0.5)
        return rank(request)

    def drip(self, first, part=b" "):
        """Send something at once and then a part again and again, until the test is over."""
        yield first
        while not self.over.wait(0.01):
            yield part

    def close(self):
        self.over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes up the thread that accepts
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _choose(self, request):
        if request.method != "GET":
            return self.next.pop(0) if self.next else self.script
        if not self.models or request.path != "/v1/models":
            return reply({"detail": f"no route {request.path}"}, 404)
        return reply({"object": "list", "data": [{"id": model, "object": "model"} for model in self.models]})

    def _accept(self):
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                with self._changed:
                    self._open.add(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, accepted):
        with suppress(OSError), accepted:
            connection = self._tls.wrap_socket(accepted, server_side=True) if self._tls else accepted
            with connection, connection.makefile("rb") as stream:
                self._talk(connection, stream)
        with self._changed:
            self._open.discard(accepted)
            self._changed.notify_all()

    def _talk(self, connection, stream):
        while request := read_request(stream):
            self.received.append(request)
            answer = self._choose(request)
            answer = answer(request) if callable(answer) else answer
            if answer is None:
                return
            if isinstance(answer, Reset):
                connection.sendall(answer.sent)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                return
            sent = b""
            for part in [answer] if isinstance(answer, bytes) else answer:
                connection.sendall(part)
                sent += part if len(sent) < 10_000 else b""
            if b"connection: close" in sent.lower():
                return
        if request is False:
            connection.sendall(http(b"", "400 Bad Request"))


def read_request(stream):
    """Read a request; None at the end of the connection, False for what is not HTTP."""
    if stream.peek(1).startswith(b"\x16"):  # the beginning of TLS
        return False
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return None
        head += line
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
    return Received(head, stream.read(int(length.split(b":")[1])))


def http(body=b"", status="200 OK", *headers):
    """Write an answer with a right length, after which the connection is closed."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def keep_alive(answer):
    return answer.replace(b"connection: close\r\n", b"", 1)


def reply(body=b"", status=200, *headers):
    """Write an answer that keeps the connection open; what is not bytes is sent as JSON."""
    kind = () if isinstance(body, bytes) else ("content-type: application/json",)
    return keep_alive(http(body, f"{status} X", *kind, *headers))


def rank_entries(request):
    return [{"index": i, "logit": float(passage["text"] or 0)} for i, passage in enumerate(request.json["passages"])]


def rank(request):
    return reply({"rankings": sorted(rank_entries(request), key=lambda entry: -entry["logit"])})


@contextmanager
def serving(script=None, **settings):
    service = HttpFake(script, **settings)
    try:
        yield service
    finally:
        service.close()
