"""Runs the stand-in from the command line: `python -m nvrerank_helpers.nim_standin --port 1976`."""

import argparse
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from nvrerank_helpers.nim_standin.cli import address, listen, options
from nvrerank_helpers.nim_standin.process import (
    GRACE_SECONDS,
    LISTENING,
    READY,
    StandInError,
    check_installed,
)
from nvrerank_helpers.nim_standin.profiles import BEHAVIOURS

if TYPE_CHECKING:
    from uvicorn import Server

    from nvrerank_helpers.nim_standin.server.service import Service


MAX_CONNECTIONS = 2000
"""Beyond them every request gets 503 at once; twice what may wait in any behaviour, whose own answer comes first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop.

    Args:
        arguments: Command line; `sys.argv` if None.

    Returns:
        Exit code: 0 after a normal end, 1 when the model did not load, 2 when it could not listen, or when an option
        makes no sense.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit_quietly)
    try:
        check_installed()
        # Scoring multiplies small matrices while the encoder keeps every core busy: BLAS threads would only wait
        # for each other. NumPy reads this when it is imported.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        asked = options(arguments)
        with listen(asked.host, asked.port) as listener:
            return _serve(listener, _service(asked), asked)
    except (StandInError, ValueError) as error:
        _complain(error)
        return 2


def _exit_quietly(*_: object) -> None:
    """End while nothing is in flight: uvicorn takes the signals itself as long as it serves."""
    os._exit(0)  # SystemExit would be lost where the signal comes in the middle of a callback that may not raise


def _complain(error: BaseException) -> None:
    sys.stderr.write(" ".join(str(error).split()) + "\n")


def _serve(listener: socket.socket, service: "Service", asked: argparse.Namespace) -> int:
    server = _server(service, asked)

    def say(words: str) -> None:
        sys.stdout.write(f"{words}{address(listener)}\n")
        sys.stdout.flush()

    def ended(loaded: Future[Any]) -> None:
        if failure := loaded.exception():
            _complain(failure)
            server.should_exit = True
        elif asked.announce == "ready":
            say(READY)

    if asked.announce == "listening":
        say(LISTENING)
    service.engine.loaded.add_done_callback(ended)
    if asked.stop_at_eof:
        threading.Thread(target=_stop_at_eof, args=(server,), daemon=True).start()
    server.run(sockets=[listener])
    return 1 if service.engine.loaded.done() and service.engine.loaded.exception() else 0


def _service(asked: argparse.Namespace) -> "Service":
    from nvrerank_helpers.nim_standin.faults.plan import Plan
    from nvrerank_helpers.nim_standin.faults.specs import parse_fault
    from nvrerank_helpers.nim_standin.ocr import PageReader
    from nvrerank_helpers.nim_standin.scoring.engine import Engine
    from nvrerank_helpers.nim_standin.scoring.registry import scorer_loader
    from nvrerank_helpers.nim_standin.server.catalog_gateway import Gateway
    from nvrerank_helpers.nim_standin.server.service import Service

    load = scorer_loader(asked.scorer, asked.threads, asked.cache_mb, trust_remote_code=asked.trust_remote_code)
    return Service(
        Engine(load, load_seconds=asked.load_seconds),
        models=asked.model,
        behaviour=BEHAVIOURS[asked.behaviour],
        gateway=Gateway(asked.requests_per_minute),
        reader=PageReader(asked.threads),
        time_limit=asked.time_limit,
        plan=Plan([parse_fault(text) for text in asked.fault], asked.fault_seed),
    )


def _server(service: "Service", asked: argparse.Namespace) -> "Server":
    import uvicorn

    from nvrerank_helpers.nim_standin.app import create_app
    from nvrerank_helpers.nim_standin.asgi.sockets import ResettableProtocol

    return uvicorn.Server(
        uvicorn.Config(
            create_app(service),
            http=ResettableProtocol,
            log_level="warning",
            limit_concurrency=MAX_CONNECTIONS,
            # What is in flight is finished: a signal waits as long as a request may take.
            timeout_graceful_shutdown=math.ceil(asked.time_limit) + 1,
        )
    )


def _stop_at_eof(server: "Server") -> None:
    """Stop when the parent closes its end of the pipe, or dies; at once if the grace is used up."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    server.should_exit = True
    time.sleep(GRACE_SECONDS + 1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
