"""A ranking service in a separate process, to be killed, to be measured against, and to go wrong on purpose.

The logit of a passage is the number with which its text ends. It costs next to nothing, so that what is measured is the
client. It counts what reaches it (`GET /stats`), writes each query that it answered into a file, which outlives it, and
a line to its standard output with its first request. A passage without a text is refused (422), and so is a hosted path
without the right key (401).
"""

import argparse
import asyncio
import heapq
import json
import random
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from http import HTTPStatus
from pathlib import Path

MODEL = "test/numbers"
KEY = "nvapi-for-the-tests-of-bulk"
SENTENCE = "a reranking model reads the query and each passage together and says how well they fit"
FAULTS = ("429", "503", "reset", "slow")
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST


class NumberService:
    """The service as a child process, which ends with its parent, or with its `with` block.

    Args:
        log: File that gets a line for each query that was answered.
        delay: Seconds from request to answer.
        faults: Share of the requests that each of the four faults strikes: 429, 503, reset, slow answer.
        slow: Seconds that a slow answer takes.
        seed: Of the faults.
        at_once: Requests that are worked on at one time, the others wait; 0 sets no limit.
    """

    def __init__(self, log=None, delay=0.0, faults=0.0, slow=1.0, seed=0, at_once=0):
        self.log, self.port = Path(log) if log else None, 0
        self._options = [f"--delay={delay}", f"--faults={faults}", f"--slow={slow}", f"--seed={seed}"]
        self._options += [f"--at-once={at_once}", *([f"--log={log}"] if log else [])]
        if self.log:
            self.log.touch()
        self.start()

    def start(self):
        """Start it, again at the address that it had."""
        command = [sys.executable, __file__, f"--port={self.port}", *self._options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.address = f"http://127.0.0.1:{self.port}"
        self.base_url = f"{self.address}/v1"

    def kill(self):
        """End it as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self):
        """End it by the end of its standard input."""
        self.process.communicate()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def wait_until_asked(self):
        """Wait for the first request."""
        self.process.stdout.readline()

    def asked(self):
        """Return the queries that were answered, in order."""
        return self.log.read_text().splitlines()

    def stats(self):
        """Return what the service counted: requests, connections, and the most of each at one time."""
        with urllib.request.urlopen(f"{self.address}/stats") as answer:
            return json.load(answer)


class Work:
    """What all connections share: the settings, the faults to come, the counts."""

    def __init__(self, delay, faults, slow, seed, at_once, log):
        self.delay, self.faults, self.slow = delay, faults, slow
        self.free_at = [0.0] * at_once  # when each place of those that work is free, the earliest first
        self.random = random.Random(seed)
        self.log = open(log, "a", buffering=1) if log else None  # noqa: SIM115, PTH123 (until the process ends)
        self.counts = Counter()
        self.in_flight = self.open = 0

    def fault(self):
        """Draw what goes wrong with the next request."""
        if not self.faults:
            return None
        chosen = int(self.random.random() // self.faults)
        return FAULTS[chosen] if chosen < len(FAULTS) else None

    def wait(self, seconds):
        """Return how long a request takes that is worked on for so many seconds, with its wait for a free place."""
        if not self.free_at:
            return seconds
        now = time.monotonic()
        ends = max(now, self.free_at[0]) + seconds
        heapq.heapreplace(self.free_at, ends)
        return ends - now

    def connected(self):
        """Count a connection with its first ranking: asking for models or counts is not what is measured."""
        self.counts["connections"] += 1
        self.open += 1
        self.counts["most open"] = max(self.counts["most open"], self.open)

    def began(self):
        """Count a request that is being answered."""
        if not self.counts["requests"]:
            print("asked", flush=True)
        self.counts["requests"] += 1
        self.in_flight += 1
        self.counts["most in flight"] = max(self.counts["most in flight"], self.in_flight)


class Connection(asyncio.Protocol):
    """One kept-alive connection, which carries its requests sequentially."""

    def __init__(self, work):
        self.work, self.received, self.timer, self.counted = work, b"", None, False

    def connection_made(self, transport):
        self.transport, self.socket = transport, transport.get_extra_info("socket")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, _):
        if self.timer:
            self.timer.cancel()
            self.work.in_flight -= 1
        self.work.open -= self.counted

    def data_received(self, data):
        self.received += data
        head, separator, rest = self.received.partition(b"\r\n\r\n")
        length = int(header(head, b"content-length") or 0)
        if separator and len(rest) >= length:
            self.received = rest[length:]
            self.answer(head, rest[:length])

    def answer(self, head, body):
        """Answer now what costs nothing, a ranking when its time has come."""
        method, path = head.split(b" ", 2)[:2]
        if method == b"GET":
            answer = self.work.counts if path == b"/stats" else {"object": "list", "data": [{"id": MODEL}]}
            self.transport.write(respond(200, answer))
            return
        if not self.counted:
            self.counted = True
            self.work.connected()
        self.work.began()
        fault = self.work.fault()
        self.work.counts[fault or "answers"] += 1
        wait = self.work.wait(self.work.slow if fault == "slow" else self.work.delay)
        key = header(head, b"authorization") if path.startswith(b"/v1/retrieval/") else f"Bearer {KEY}".encode()
        query, reply = (None, refuse(fault)) if fault in {"429", "503"} else rank(json.loads(body), key)
        self.timer = asyncio.get_running_loop().call_later(wait, self.finish, fault, query, reply)

    def finish(self, fault, query, reply):
        """Send the reply, or break off in its midst."""
        self.timer = None
        self.work.in_flight -= 1
        if fault == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.transport.write(reply[: self.work.random.choice((0, len(reply) // 2))])
            self.transport.abort()
            return
        if self.work.log and query is not None:
            self.work.log.write(f"{query}\n")
        self.transport.write(reply)


def header(head, name):
    _, _, value = head.partition(b"\r\n")[2].lower().partition(name + b":")
    start = len(head) - len(value)
    return head[start:].split(b"\r\n", 1)[0].strip() if value else b""


def refuse(fault):
    return respond(int(fault), {"detail": "on purpose"}, "Retry-After: 0\r\n" * (fault == "429"))


def rank(body, key):
    """Return the query, if it is answered, and the answer of a NIM."""
    texts = [passage["text"] for passage in body["passages"]]
    if key != f"Bearer {KEY}".encode():
        return None, respond(401, {"detail": "no key"})
    if not all(texts):
        return None, respond(422, {"message": "a passage has no text"})
    logits = [float(text.rsplit(" ", 1)[-1]) for text in texts]
    order = sorted(range(len(logits)), key=lambda index: -logits[index])
    usage = {"prompt_tokens": len(logits), "total_tokens": len(logits)}
    rankings = [{"index": index, "logit": logits[index]} for index in order]
    return body["query"]["text"], respond(200, {"rankings": rankings, "usage": usage})


def respond(status, answer, headers=""):
    body, phrase = json.dumps(answer).encode(), HTTPStatus(status).phrase
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}{headers}\r\n".encode() + body


def make_texts(count, seed=0):
    """Make passages of about 400 characters, each ending with the number that is its logit; no number comes twice."""
    chance, words = random.Random(seed), SENTENCE.split()
    logits = chance.sample(range(-100_000, 100_000), count)
    return [f"{' '.join(chance.choices(words, k=70))} {logit / 10_000}" for logit in logits]


async def serve(port, **settings):
    """Serve, write the port to standard output, and end when standard input is closed."""
    work, loop = Work(**settings), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(work), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"port": 0, "delay": 0.0, "faults": 0.0, "slow": 1.0, "seed": 0, "at-once": 0}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--log")
    asyncio.run(serve(**vars(parser.parse_args())))
