"""A ranking service in a process of its own, to be killed: the logit of a passage is the number that its text is.

Each query that it answered is a line of a file, which outlives it. A passage without a text is refused (422), and so is
a hosted path without the right key (401). With the first request, it writes a line to its standard output.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODEL = "test/numbers"
KEY = "nvapi-for-the-tests-of-bulk"


class NumberService:
    """The service as a child process, which ends with its parent.

    Args:
        log: File that gets a line for each query that was answered.
        delay: Seconds from request to answer.
    """

    def __init__(self, log, delay=0.0):
        self.log, self.delay, self.port = Path(log), delay, 0
        self.log.touch()
        self.start()

    def start(self):
        """Start it, again at the address that it had."""
        command = [sys.executable, __file__, str(self.port), str(self.log), str(self.delay)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.base_url = f"http://127.0.0.1:{self.port}/v1"

    def kill(self):
        """End it as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self):
        """End it by the end of its standard input."""
        self.process.communicate()

    def wait_until_asked(self):
        """Wait for the first request."""
        self.process.stdout.readline()

    def asked(self):
        """Return the queries that were answered, in order."""
        return self.log.read_text().splitlines()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(200, {"object": "list", "data": [{"id": MODEL}]})

    def do_POST(self):
        self.server.note_request()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = [passage["text"] for passage in body["passages"]]
        time.sleep(self.server.delay)
        if self.path.startswith("/v1/retrieval/") and self.headers["Authorization"] != f"Bearer {KEY}":
            return self.answer(401, {"detail": "no key"})
        if not all(texts):
            return self.answer(422, {"message": "a passage has no text"})
        order = sorted(range(len(texts)), key=lambda index: -float(texts[index]))
        self.server.log.write(f"{body['query']['text']}\n")
        return self.answer(200, {"rankings": [{"index": index, "logit": float(texts[index])} for index in order]})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(self, port, log, delay):
        super().__init__(("127.0.0.1", port), Handler)
        self.log, self.delay = log, delay
        self._first = threading.Lock()

    def note_request(self):
        if self._first.acquire(blocking=False):
            print("asked", flush=True)


def serve(port, log, delay):
    with log.open("a", buffering=1) as lines, Server(port, lines, delay) as server:
        print(server.server_address[1], flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
