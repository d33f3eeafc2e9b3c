"""A ranking service on the loopback interface that costs next to nothing, so that what is measured is the client.

It runs in a process of its own, answers `POST /v1/ranking` with the number that each passage ends with as its logit,
counts what reaches it (`GET /stats`), and goes wrong on purpose where `--faults` says how often.
"""

import argparse
import asyncio
import heapq
import json
import random
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Self

import httpx

MODEL = "benchmark/local-ranker"
SENTENCE = "a reranking model reads the query and each passage together and says how well they fit"
FAULTS = ("429", "503", "reset", "slow")
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST


class LocalServer:
    """The service as a child process that ends with the `with` block, and with its parent.

    Args:
        delay: Seconds from request to answer.
        faults: Share of the requests that each of the four faults strikes: 429, 503, reset, slow answer.
        slow: Seconds that a slow answer takes.
        seed: Of the faults.
        at_once: Requests that are worked on at one time, the others wait; 0 sets no limit.
    """

    def __init__(
        self, delay: float = 0.0, faults: float = 0.0, slow: float = 1.0, seed: int = 0, at_once: int = 0
    ) -> None:
        options = [f"--delay={delay}", f"--faults={faults}", f"--slow={slow}", f"--seed={seed}", f"--at-once={at_once}"]
        command = [sys.executable, __file__, *options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        port = self._process.stdout.readline() if self._process.stdout else ""
        self.address = f"http://127.0.0.1:{port.strip()}"
        self.base_url = f"{self.address}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # closes its standard input, which ends it

    def stats(self) -> dict[str, int]:
        """Return what the service counted: requests, connections, and the most of each at one time."""
        counts: dict[str, int] = httpx.get(f"{self.address}/stats").json()
        return counts


class Service:
    """What all connections share: the settings, the faults to come, the counts."""

    def __init__(self, delay: float, faults: float, slow: float, seed: int, at_once: int) -> None:
        self.delay, self.faults, self.slow = delay, faults, slow
        self.free_at = [0.0] * at_once  # when each place of those that work is free, the earliest first
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.in_flight = 0
        self.open = 0

    def fault(self) -> str | None:
        """Draw what goes wrong with the next request."""
        if not self.faults:
            return None
        chosen = int(self.random.random() // self.faults)
        return FAULTS[chosen] if chosen < len(FAULTS) else None

    def wait(self, seconds: float) -> float:
        """Return how long a request takes that is worked on for so many seconds, with its wait for a free place."""
        if not self.free_at:
            return seconds
        now = time.monotonic()
        ends = max(now, self.free_at[0]) + seconds
        heapq.heapreplace(self.free_at, ends)
        return ends - now

    def connected(self) -> None:
        """Count a connection with its first ranking: asking for models or counts is not what is measured."""
        self.counts["connections"] += 1
        self.open += 1
        self.counts["most open"] = max(self.counts["most open"], self.open)

    def began(self) -> None:
        """Count a request that is being answered."""
        self.counts["requests"] += 1
        self.in_flight += 1
        self.counts["most in flight"] = max(self.counts["most in flight"], self.in_flight)


class Connection(asyncio.Protocol):
    """One kept-alive connection, which carries one request after the other."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.received = b""
        self.timer: asyncio.TimerHandle | None = None
        self.counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.socket: socket.socket = transport.get_extra_info("socket")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()
            self.service.in_flight -= 1
        self.service.open -= self.counted

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, separator, rest = self.received.partition(b"\r\n\r\n")
        length = _content_length(head)
        if separator and len(rest) >= length:
            self.received = rest[length:]
            self.answer(head.split(b" ", 2)[1].decode(), rest[:length])

    def answer(self, path: str, body: bytes) -> None:
        """Answer now what costs nothing, a ranking when its time has come."""
        if path != "/v1/ranking":
            answers = {"/v1/models": {"object": "list", "data": [{"id": MODEL}]}, "/stats": self.service.counts}
            self.transport.write(_response(HTTPStatus.OK, answers[path]))
            return
        if not self.counted:
            self.counted = True
            self.service.connected()
        self.service.began()
        fault = self.service.fault()
        self.service.counts[fault or "answers"] += 1
        wait = self.service.wait(self.service.slow if fault == "slow" else self.service.delay)
        self.timer = asyncio.get_running_loop().call_later(wait, self.finish, fault, _reply(fault, body))

    def finish(self, fault: str | None, reply: bytes) -> None:
        """Send the reply, or break off in its midst."""
        self.timer = None
        self.service.in_flight -= 1
        if fault == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.transport.write(reply[: self.service.random.choice((0, len(reply) // 2))])
            self.transport.abort()
        else:
            self.transport.write(reply)


def _content_length(head: bytes) -> int:
    _, _, value = head.lower().partition(b"\r\ncontent-length:")
    return int(value.split(b"\r\n", 1)[0] or 0)


def _reply(fault: str | None, body: bytes) -> bytes:
    if fault in {"429", "503"}:
        return _response(HTTPStatus(int(fault)), {"detail": "on purpose"}, "Retry-After: 0\r\n" * (fault == "429"))
    return _response(HTTPStatus.OK, ranking(json.loads(body)["passages"]))


def ranking(passages: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Rank passages by the number that each ends with, as a NIM would answer."""
    logits = [float(passage["text"].rsplit(" ", 1)[1]) for passage in passages]
    order = sorted(range(len(logits)), key=lambda index: -logits[index])
    usage = {"prompt_tokens": len(logits), "total_tokens": len(logits)}
    return {"rankings": [{"index": index, "logit": logits[index]} for index in order], "usage": usage}


def _response(status: HTTPStatus, answer: object, headers: str = "") -> bytes:
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{headers}\r\n".encode() + body


def texts(count: int, seed: int = 0) -> list[str]:
    """Make passages of about 400 characters, each ending with the number that is its logit; no number comes twice."""
    chance, words = random.Random(seed), SENTENCE.split()
    logits = chance.sample(range(-100_000, 100_000), count)
    return [f"{' '.join(chance.choices(words, k=70))} {logit / 10_000}" for logit in logits]


async def serve(service: Service) -> None:
    """Serve on a free port, write it to standard output, and end when standard input is closed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds from request to answer")
    parser.add_argument("--faults", type=float, default=0.0, help=f"share of each of {', '.join(FAULTS)}")
    parser.add_argument("--slow", type=float, default=1.0, help="seconds that a slow answer takes")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--at-once", type=int, default=0, help="requests that are worked on at one time; 0: all")
    asyncio.run(serve(Service(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
