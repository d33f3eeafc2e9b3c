"""Runs the stand-in from the command line: `python -m nvrerank_helpers.nim_standin --port 1976`."""

import argparse
import errno
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from nvrerank_helpers.catalog import DEFAULT_MODEL
from nvrerank_helpers.nim_standin.process import GRACE_SECONDS, READY, StandInError, check_installed

if TYPE_CHECKING:
    from uvicorn import Server

logger = logging.getLogger("nvrerank_helpers.nim_standin")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop.

    Args:
        arguments: Command line; `sys.argv` if None.

    Returns:
        Exit code: 0 after a normal end, 1 when the model did not load, 2 when it could not listen.
    """
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _exit_quietly)
    try:
        check_installed()
        listener = _listen(options.host, options.port)
    except StandInError as error:
        _complain(error)
        return 2
    with listener:
        return _serve(listener, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nvrerank_helpers.nim_standin",
        description="A local service that speaks the protocol of an NVIDIA reranking NIM.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=1976, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--model", action="append", metavar="ID", help=f"served model (default: {DEFAULT_MODEL})")
    parser.add_argument("--threads", type=_positive, metavar="N", help="cores to use (default: all)")
    parser.add_argument("--cache-mb", type=_positive, default=256, metavar="N", help="memory for known passages")
    parser.add_argument("--stop-at-eof", action="store_true", help="stop when standard input closes")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _exit_quietly(*_: object) -> None:
    sys.exit(0)


def _complain(error: BaseException) -> None:
    sys.stderr.write(" ".join(str(error).split()) + "\n")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise StandInError(
                f"Port {port} on {host} is already in use.",
                hint="Stop what listens there, or choose another port with --port (0 takes a free one).",
            ) from error
        raise StandInError(f"Cannot listen on {host} port {port}: {error}.", hint="Check --host and --port.") from error
    if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        logger.warning("Listening on %s: everyone who reaches this machine can use the service", host)
    # asyncio switches Nagle's algorithm off for sockets that say they are TCP, and `create_server` does not say so:
    # with it, the body of an answer waits 40 ms for the client to acknowledge the header.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())


def _serve(listener: socket.socket, options: argparse.Namespace) -> int:
    # Scoring multiplies small matrices while the encoder keeps every core busy: BLAS threads would only wait for
    # each other. NumPy reads this when it is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import uvicorn

    from nvrerank_helpers.nim_standin.app import Service, create_app
    from nvrerank_helpers.nim_standin.scoring import RelevanceModel

    service = Service(
        load=lambda: RelevanceModel.load(threads=options.threads, cache_mb=options.cache_mb),
        models=options.model or [DEFAULT_MODEL],
    )
    server = uvicorn.Server(
        uvicorn.Config(create_app(service), log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS)
    )
    address = _address(listener)

    def announce(loaded: Future[Any]) -> None:
        if failure := loaded.exception():
            _complain(failure)
            server.should_exit = True
        else:
            sys.stdout.write(f"{READY}{address}\n")
            sys.stdout.flush()

    service.loaded.add_done_callback(announce)
    if options.stop_at_eof:
        threading.Thread(target=_stop_at_eof, args=(server,), daemon=True).start()
    server.run(sockets=[listener])
    return 1 if service.loaded.done() and service.loaded.exception() else 0


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def _stop_at_eof(server: "Server") -> None:
    """Stop when the parent closes its end of the pipe, or dies; at once if the grace is used up."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    server.should_exit = True
    time.sleep(GRACE_SECONDS + 1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
