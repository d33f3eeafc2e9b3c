"""A service on a bare socket of this machine: it answers bytes that no HTTP library would write."""

import json
import socket
import threading
from contextlib import contextmanager, suppress


class RawService:
    """Answers each request with what `answer` makes of it: bytes, or a list of parts that are sent one by one.

    The answer None closes the connection without a word. A connection stays open while both sides keep it.
    """

    def __init__(self, answer=None, tls=None):
        self.answer = answer or rank
        self.requests, self.connections = [], 0
        self._tls = tls
        self._open = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.origin = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def bodies(self):
        return [json.loads(body) for _, body in self.requests if body]

    @property
    def heads(self):
        return [head for head, _ in self.requests]

    def close(self):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes up the thread that accepts
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with suppress(OSError):
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._open.add(connection)
            with connection, connection.makefile("rb") as stream:
                self._talk(connection, stream)
        self._open.discard(connection)

    def _talk(self, connection, stream):
        while request := read_request(stream):
            self.requests.append(request)
            answer = self.answer(*request)
            if answer is None:
                return
            parts = [answer] if isinstance(answer, bytes) else answer
            for part in parts:
                connection.sendall(part)
            if b"connection: close" in b"".join(parts).lower():
                return
        if request is False:
            connection.sendall(http(b"", "400 Bad Request"))


def read_request(stream):
    """Return the head and the body of a request; None at the end of the connection, False for what is not HTTP."""
    if stream.peek(1).startswith(b"\x16"):  # the beginning of TLS
        return False
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return None
        head += line
    lines = head.lower().split(b"\r\n")
    length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), 0)
    return head, stream.read(length)


def http(body=b"", status="200 OK", *headers):
    """Write an answer with a right length."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def keep_alive(answer):
    return answer.replace(b"connection: close\r\n", b"")


def rank(head, body):
    """Rank as a NIM does: the logit of a passage is the number that its text is. It lists no models."""
    if head.startswith(b"GET "):
        return keep_alive(http(b"", "404 Not Found"))
    texts = [passage["text"] for passage in json.loads(body)["passages"]]
    return keep_alive(http({"rankings": [{"index": i, "logit": float(text)} for i, text in enumerate(texts)]}))


@contextmanager
def serving(answer=None, tls=None):
    service = RawService(answer, tls)
    try:
        yield service
    finally:
        service.close()
