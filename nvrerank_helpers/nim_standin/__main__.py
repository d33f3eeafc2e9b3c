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

from nvrerank_helpers.nim_standin.cli import format_url, listen, parse_options
from nvrerank_helpers.nim_standin.process import GRACE_SECONDS, LISTENING, READY, StandInError, check_installed
from nvrerank_helpers.nim_standin.profiles import PROFILES, TIME_LIMIT_SECONDS

if TYPE_CHECKING:
    from uvicorn import Server

    from nvrerank_helpers.nim_standin.server.service import StandInService

MAX_CONNECTIONS = 2000
"""Beyond them every request gets 503 at once; twice the longest queue of any profile, whose own refusal comes first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal arrives; return 0, 1 if the model did not load, or 2 if it could not start."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit_quietly)
    try:
        check_installed()
        # Scoring multiplies small matrices while the encoder keeps every core busy: BLAS threads would only wait
        # for each other. NumPy reads this when it is imported.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        options = parse_options(arguments)
        with listen(options.host, options.port) as listener:
            return _serve(listener, _build_service(options), options)
    except (StandInError, ValueError) as error:
        _complain(error)
        return 2


def _exit_quietly(*_: object) -> None:
    """End before the service runs; uvicorn handles the signals itself as long as it serves."""
    os._exit(0)  # SystemExit would be lost if the signal arrives in the middle of a callback that may not raise


def _complain(error: BaseException) -> None:
    sys.stderr.write(" ".join(str(error).split()) + "\n")


def _serve(listener: socket.socket, service: "StandInService", options: argparse.Namespace) -> int:
    server = _build_server(service)

    def announce(words: str) -> None:
        sys.stdout.write(f"{words}{format_url(listener)}\n")
        sys.stdout.flush()

    def report_loading(loaded: Future[Any]) -> None:
        if failure := loaded.exception():
            _complain(failure)
            server.should_exit = True
        elif options.announce == "ready":
            announce(READY)

    if options.announce == "listening":
        announce(LISTENING)
    service.engine.loaded.add_done_callback(report_loading)
    if options.stop_at_eof:
        threading.Thread(target=_stop_at_eof, args=(server,), daemon=True).start()
    server.run(sockets=[listener])
    return 1 if service.engine.loaded.done() and service.engine.loaded.exception() else 0


def _build_service(options: argparse.Namespace) -> "StandInService":
    from nvrerank_helpers.nim_standin.faults.plan import FaultPlan
    from nvrerank_helpers.nim_standin.faults.specs import parse_fault
    from nvrerank_helpers.nim_standin.ocr import PageReader
    from nvrerank_helpers.nim_standin.scoring.engine import Engine
    from nvrerank_helpers.nim_standin.scoring.registry import choose_scorer
    from nvrerank_helpers.nim_standin.server.catalog_gateway import CatalogGateway
    from nvrerank_helpers.nim_standin.server.service import StandInService

    load = choose_scorer(
        options.scorer,
        options.threads,
        options.cache_mb,
        keep_vectors=options.keep_vectors,
        trust_remote_code=options.trust_remote_code,
    )
    return StandInService(
        Engine(load, load_seconds=options.load_seconds),
        models=options.model,
        profile=PROFILES[options.behaviour],
        gateway=CatalogGateway(options.requests_per_minute),
        reader=PageReader(options.threads),
        plan=FaultPlan(map(parse_fault, options.fault)),
    )


def _build_server(service: "StandInService") -> "Server":
    import uvicorn

    from nvrerank_helpers.nim_standin.app import create_app
    from nvrerank_helpers.nim_standin.asgi.sockets import ResettableProtocol

    return uvicorn.Server(
        uvicorn.Config(
            create_app(service),
            http=ResettableProtocol,
            log_level="warning",
            limit_concurrency=MAX_CONNECTIONS,
            # A signal lets requests in flight finish: it waits as long as a request may take.
            timeout_graceful_shutdown=math.ceil(TIME_LIMIT_SECONDS) + 1,
        )
    )


def _stop_at_eof(server: "Server") -> None:
    """Stop when the parent closes its end of the pipe, or dies; at once when the grace period is over."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    server.should_exit = True
    time.sleep(GRACE_SECONDS + 1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
