"""A service that only notes what reaches it: how many connections, and each request's headers and length."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Upstream:
    """What has reached the service."""

    address: str = ""
    connections: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


@contextmanager
def upstream(status: int = 200) -> Iterator[Upstream]:
    """Run a service that answers every POST with this status and an empty object, and keeps connections open."""
    noted = Upstream()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with lock:
                noted.connections += 1

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            with lock:
                noted.headers.append({name.lower(): value for name, value in self.headers.items()})
                noted.lengths.append(len(content))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.block_on_close = False  # connections that nginx keeps open end with nginx
        noted.address = f"http://127.0.0.1:{server.server_port}/v1"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield noted
        finally:
            server.shutdown()
            thread.join()
