"""Does `deadline` hold for every kind of call, however slowly a service answers, and does nothing stay behind?

python benchmarks/deadlines.py [--only WORD] [--at-once N]

Ends with an error code when a call takes too long or ends wrong, or when threads or open files stay.
"""

import argparse
import asyncio
import gzip
import itertools
import json
import logging
import multiprocessing
import os
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import httpx
import httpx2
from llama_index.core.schema import NodeWithScore, TextNode

from nvrerank_helpers import NVIDIARerank, RateLimit
from nvrerank_helpers.connector import RerankError

DEADLINE, MOST, PATIENCE = 1.0, 1.3, 10.0  # seconds: promised, tolerated, until a call counts as hung
PAUSE, BLOCKED, LOOKUP = 0.02, 5.0, 3.0  # seconds: between drips, in a slow cache, in a slow name server
SHORT, SETTLE, EXIT, MORE = 0.05, 2.0, 2.0, 3  # for leaks: deadline, settling, the process's end; what may stay
CALLS, LARGE_CALLS = 500, 20  # that time out; a large request that is not let go of holds megabytes
NODES = [NodeWithScore(node=TextNode(text=str(number)), score=0.5) for number in range(4)]
LARGE = NodeWithScore(node=TextNode(text="many words " * 700_000), score=0.5)  # more than the sockets' buffers take
FINE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LONG, CHUNKED = FINE + b"Content-Length: 99999\r\n\r\n", FINE + b"Transfer-Encoding: chunked\r\n\r\n"
PACKED = gzip.compress(os.urandom(1000))
CONTINUE, HEADER, CHUNK = b"HTTP/1.1 100 Continue\r\n\r\n", b"X-More: 1\r\n", b"10000\r\n" + bytes(65536) + b"\r\n"
AGAIN = b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n"


# What is sent at once, then again and again after a pause. Where there is nothing to repeat, silence follows, or the
# next request where there is no pause either.
SLOW: dict[str, tuple[bytes, list[bytes], float | None]] = {
    "accepts, never answers": (b"", [], PAUSE),
    "silent, also about its models": (b"", [], PAUSE),
    "drips the TLS handshake": (b"\x16\x03\x03\x40\x00", [b"\x00"], PAUSE),
    "drips the status line": (b"HTTP/1.1 200 ", [b"O"], PAUSE),
    "drips headers": (FINE, [*map(bytes, zip(b"X-Slow: no, not yet\r\n"))], PAUSE),
    "endless headers": (FINE, [HEADER], PAUSE),
    "floods with headers": (FINE, [HEADER * 1000], 0),
    "endless 100 Continue": (b"", [CONTINUE], PAUSE),
    "floods with 100 Continue": (b"", [CONTINUE * 1000], 0),
    "one 103, then silence": (b"HTTP/1.1 103 Early Hints\r\n\r\n", [], PAUSE),
    "headers, then silence": (LONG, [], PAUSE),
    "drips the body": (LONG, [b" "], PAUSE),
    "drips chunks": (CHUNKED, [b"1\r\n \r\n"], PAUSE),
    "drips the size of a chunk": (CHUNKED + b"1;", [b"a"], PAUSE),
    "drips a gzip body": (
        LONG.replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1),
        [*map(bytes, zip(PACKED))],
        PAUSE,
    ),
    "floods with a body": (CHUNKED, [CHUNK], 0),
    "stops a byte early": (FINE + b'Content-Length: 16\r\n\r\n{"rankings": []', [], PAUSE),
    "503, drips its body": (b"HTTP/1.1 503 Busy\r\nContent-Length: 99999\r\n\r\n", [b" "], PAUSE),
    "503, Retry-After 0": (AGAIN % b"503 Busy\r\nRetry-After: 0", [], None),
    "429, Retry-After 1": (AGAIN % b"429 Too Many Requests\r\nRetry-After: 1", [], None),
    "202 forever": (AGAIN % b"202 Accepted\r\nNVCF-REQID: a-1", [], None),
}
RESET, UNREAD, FULL = "resets the connection", "never reads the request", "never accepts"
UNKNOWN, LIMITED = "slow name server", "no slot left in the RateLimit"
LEAKY = "accepts, never answers", "drips headers", "503, Retry-After 0", UNREAD
MAY_ANSWER = "slow cache, get", "slow cache, put", "drips its models, ranks at once"  # a right ranking is possible
NAMES = [*SLOW, RESET, UNREAD, FULL, UNKNOWN, LIMITED, *MAY_ANSWER]
SPAWN = multiprocessing.get_context("spawn")
# A sync client is shared by all calls: closing it would pull sockets away from the threads of earlier ones.
CLIENTS: dict[str, tuple[str, Any]] = {
    "sync, own": ("", None),
    "sync, httpx": ("http_client", httpx.Client(limits=httpx.Limits(max_connections=None))),
    "sync, httpx2": ("http_client", httpx2.Client(limits=httpx2.Limits(max_connections=None))),
    "async, own": ("", None),
    "async, httpx.Client": ("http_client", httpx.Client(limits=httpx.Limits(max_connections=None))),
    "async, httpx": ("async_http_client", httpx.AsyncClient),
    "async, httpx2": ("async_http_client", httpx2.AsyncClient),
}


def serve(pipe: Connection) -> None:
    """Serve all patterns until the other end of the pipe closes; the first part of the path says which is asked for."""

    async def listen() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)  # so that a large request does not fit in
        full, crowd = socket.create_server(("127.0.0.1", 0), backlog=0), [socket.socket() for _ in range(4)]
        for visitor in crowd:  # they fill the backlog
            visitor.setblocking(False)
            visitor.connect_ex(full.getsockname())
        await asyncio.start_server(handle, sock=listener, backlog=1000)
        pipe.send([listener.getsockname()[1], full.getsockname()[1]])
        with suppress(EOFError):
            await asyncio.to_thread(pipe.recv)
        os._exit(0)  # some handlers never end

    asyncio.run(listen())


async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        while await answer(reader, writer):
            await writer.drain()
        await reader.read()  # until the client goes
    writer.transport.abort()


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer one request, and return whether another may follow on the connection."""
    first = await reader.readexactly(1)
    head = b"" if first == b"\x16" else first + await reader.readuntil(b"\r\n\r\n")
    name, asks_models = NAMES[int(head.split(b"/", 2)[1])] if head else "drips the TLS handshake", b"/models " in head
    if asks_models and "models" not in name:
        name = "models"
    if name == UNREAD:
        await asyncio.sleep(3600)
    body = await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r")[0] or 0))
    if name == RESET:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    if name in SLOW or (asks_models and name in MAY_ANSWER):
        at_once, pieces, pause = SLOW.get(name) or SLOW["drips the body"]
        writer.write(at_once)
        for piece in itertools.cycle(pieces):
            await asyncio.sleep(pause or 0)
            writer.write(piece)
            await writer.drain()
        return pause is None
    passages = json.loads(body)["passages"] if body else []
    logits = [{"index": index, "logit": float(passage["text"])} for index, passage in enumerate(passages)]
    text = json.dumps({"data": [{"id": "m"}]} if asks_models else {"rankings": logits}).encode()
    writer.write(FINE + b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
    return True


def look_up_slowly(host: Any, *arguments: Any, look_up: Any = socket.getaddrinfo, **more: Any) -> Any:
    time.sleep(LOOKUP if host in ("slow.invalid", b"slow.invalid") else 0)
    return look_up(host, *arguments, **more)


class SlowCache:
    def __init__(self, name: str) -> None:
        self._name = name

    def get(self, _: Iterable[bytes]) -> dict[bytes, float]:
        time.sleep(BLOCKED if "get" in self._name else 0)
        return {}

    def put(self, _: Any) -> None:
        time.sleep(BLOCKED if "put" in self._name else 0)


def make_address(name: str, ports: Sequence[int]) -> str:
    host = f"{'https' if 'TLS' in name else 'http'}://{'slow.invalid' if name == UNKNOWN else '127.0.0.1'}"
    return f"{host}:{ports[name == FULL]}/{NAMES.index(name)}"


def make_reranker(name: str, ports: Sequence[int], client: str, **arguments: Any) -> NVIDIARerank:
    limit, (argument, given) = RateLimit(1, 3600), CLIENTS[client]
    with limit.book(1):
        arguments |= {"rate_limit": limit} if name == LIMITED else {}
    arguments |= {"score_cache": SlowCache(name)} if "cache" in name else {}
    arguments |= {argument: given() if isinstance(given, type) else given} if given else {}
    arguments |= {} if name == "202 forever" else {"base_url": f"{make_address(name, ports)}/v1", "model": "m"}
    return NVIDIARerank(timeout=60, max_retries=3, top_n=None, **arguments)


async def call(name: str, ports: Sequence[int], client: str, many: bool, on_failure: str) -> tuple[float, str]:  # noqa: FBT001
    """Make one call; return the seconds and how it ended, in capital letters where that is wrong."""
    size = {"max_batch_size": 1} if many else {}
    reranker = make_reranker(name, ports, client, deadline=DEADLINE, on_failure=on_failure, **size)
    nodes = [LARGE] * (1 + many) if name == UNREAD else NODES
    started = time.monotonic()
    try:
        if client.startswith("async"):
            found = await reranker.apostprocess_nodes(nodes, query_str="q")
        else:
            found = reranker.postprocess_nodes(nodes, query_str="q")
        order, error = [item.node_id for item in found], found[0].metadata.get("rerank_failed")
        kept = on_failure == "keep_order" and error and order == [item.node_id for item in nodes]
        right = name in MAY_ANSWER and order == [item.node_id for item in reversed(nodes)]
        ended = f"kept ({error})" if kept else "right" if right else "WRONG ORDER"
    except RerankError as error:
        ended = type(error).__name__ if on_failure == "raise" else f"RAISED {type(error).__name__}"
    except Exception as error:  # noqa: BLE001 - what must not happen is counted
        ended = f"UNTYPED {type(error).__name__}"
    seconds = time.monotonic() - started
    await reranker.aclose()
    return seconds, ended


def measure(name: str, ports: Sequence[int], at_once: int) -> tuple[float, bool]:
    """Print the line of a pattern; return the longest time, and whether every call ended as it should."""
    combinations = list(itertools.product(CLIENTS, (False, True), ("raise", "keep_order")))
    pool = ThreadPoolExecutor(at_once)
    calls = [pool.submit(lambda *given: asyncio.run(call(name, ports, *given)), *each) for each in combinations]
    pool.shutdown(wait=False)
    ended, _ = wait(calls, PATIENCE + 2 * MOST * len(calls) / at_once)
    results = [one.result() if one in ended else (PATIENCE, "HUNG") for one in calls]
    (worst, _), (client, many, on_failure) = max(zip(results, combinations, strict=True))
    endings = ", ".join(f"{count} {ending}" for ending, count in Counter(ending for _, ending in results).most_common())
    print(f"{name:29}{worst:6.2f}  {client:19} {('one', 'many')[many]:4}  {on_failure:10}  {endings}", flush=True)
    return worst, not any(word.isupper() for word in endings.split())


def count_leaks(name: str, client: str, ports: Sequence[int], pipe: Connection) -> None:
    """Count threads and open files after one call and after many, and see whether a call still ends right then."""
    logging.disable()
    reranker = make_reranker(name, ports, client, deadline=SHORT, on_failure="keep_order", max_batch_size=2)
    counts, endings = [], set()
    for calls in (1, LARGE_CALLS if name == UNREAD else CALLS):
        for _ in range(calls):
            reranker.postprocess_nodes([LARGE] if name == UNREAD else NODES, query_str="q")
            endings.add(type(reranker.last_failure).__name__)
        time.sleep(SETTLE)
        counts.append((threading.active_count(), len(os.listdir("/proc/self/fd"))))  # noqa: PTH208 (it is shorter)
    reranker.deadline, reranker.base_url = 5, f"{make_address(LIMITED, ports)}/v1"
    right = reranker.postprocess_nodes(NODES, query_str="q")[0].score == len(NODES) - 1
    pipe.send((*counts, endings, right))


def find_leaks(name: str, client: str, ports: Sequence[int]) -> bool:
    """Make calls that fail in a process of their own, print what stays of them, and return whether all is well."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=count_leaks, args=(name, client, ports, theirs))
    process.start()
    before, after, endings, right = ours.recv()
    said = time.monotonic()
    process.join(PATIENCE)
    seconds = time.monotonic() - said
    then = f"{', '.join(sorted(endings))}, the next call {'right' if right else 'WRONG'}; exit after {seconds:.2f} s"
    print(f"{name}, {client}: threads and open files {before}, then {after}; {then}", flush=True)
    return right and seconds <= EXIT and all(late - early <= MORE for early, late in zip(before, after, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="patterns whose names contain this, or `leaks`")
    parser.add_argument("--at-once", type=int, default=4, help="calls at one time (default 4)")
    given = parser.parse_args()
    ours, theirs = SPAWN.Pipe()
    server = SPAWN.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    ports = ours.recv()
    os.environ |= {"NVRERANK_CATALOG_URL": make_address("202 forever", ports), "NVIDIA_API_KEY": "nvapi-test"}
    logging.disable()  # every order that is kept is logged
    socket.getaddrinfo = look_up_slowly
    results = [measure(name, ports, given.at_once) for name in NAMES if given.only in name]
    worst = max((seconds for seconds, _ in results), default=0.0)
    time.sleep(BLOCKED)
    hang = sum(thread.name == "rerank-call" for thread in threading.enumerate())
    print(f"longest of all: {worst:.2f} s (target: {MOST:g} at most); {hang} threads of the connector hang", flush=True)
    cases = itertools.product(LEAKY, ("sync, own", "sync, httpx")) if given.only in ("", "leaks") else ()
    tight = [find_leaks(name, client, ports) for name, client in cases]
    server.terminate()
    fine = worst <= MOST and all(right for _, right in results) and not hang and all(tight)
    sys.stdout.flush()
    os._exit(not fine)  # a call that hangs does not hold it up


if __name__ == "__main__":
    main()
