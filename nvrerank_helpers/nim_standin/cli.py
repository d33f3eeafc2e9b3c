"""The command line of the stand-in, and the socket that it asks for."""

import argparse
import errno
import ipaddress
import logging
import socket
from collections.abc import Sequence

from nvrerank_helpers.connector import DEFAULT_MODEL
from nvrerank_helpers.nim_standin.process import StandInError
from nvrerank_helpers.nim_standin.profiles import (
    BEHAVIOURS,
    MAX_MODEL_NAME,
    NIM_1_10,
    REQUESTS_PER_MINUTE,
    TIME_LIMIT_SECONDS,
)

logger = logging.getLogger("nvrerank_helpers.nim_standin")

FEWEST_TOKENS = 4
"""Three special tokens of a query with its passage, and one of the query."""

MOST_SECONDS = 3600
"""Of any option that is a time."""


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Args:
        arguments: What stands behind the program's name; None takes it from the command line.

    Returns:
        The options by name.

    Example:
        >>> options(["--model", "me/small=512"]).model
        {'me/small': 512}
    """
    parser = argparse.ArgumentParser(
        prog="python -m nvrerank_helpers.nim_standin",
        description="A local service that speaks the protocol of an NVIDIA reranking NIM.",
    )
    _add_service_options(parser)
    _add_engine_options(parser)
    _add_fault_options(parser)
    asked = parser.parse_args(arguments)
    asked.model = dict(asked.model or [(DEFAULT_MODEL, None)])
    return asked


def _add_service_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=1976, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--behaviour", choices=BEHAVIOURS, default=NIM_1_10.name, help="what to imitate (default: %(default)s)"
    )
    parser.add_argument(
        "--model",
        type=_model,
        action="append",
        metavar="ID[=TOKENS]",
        help=f"served model, and its limit of tokens if not its own; repeatable (default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--requests-per-minute",
        type=_positive,
        default=REQUESTS_PER_MINUTE,
        metavar="N",
        help="of one key, where the catalog is imitated (default: %(default)s)",
    )
    parser.add_argument(
        "--time-limit",
        type=_some_seconds,
        default=TIME_LIMIT_SECONDS,
        metavar="SECONDS",
        help="after which a request is given up (default: %(default)g)",
    )
    parser.add_argument(
        "--announce",
        choices=("listening", "ready"),
        default="ready",
        help="when to write the address to standard output: once it listens, or once it can rank (default)",
    )
    parser.add_argument("--stop-at-eof", action="store_true", help="stop when standard input closes")


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scorer",
        default="late-interaction",
        metavar="NAME",
        help="the relevance model: late-interaction (default), or, with the extra `cross-encoder`, cross-encoder: with "
        "a folder or a hub id behind it",
    )
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="let code that comes with a cross-encoder's weights run"
    )
    parser.add_argument(
        "--threads", type=_positive, metavar="N", help="cores to use (default: those this process may use)"
    )
    parser.add_argument("--cache-mb", type=_positive, default=256, metavar="N", help="memory for known passages")
    parser.add_argument(
        "--load-seconds", type=_seconds, default=0.0, metavar="N", help="make the loading phase longer, for a lesson"
    )


def _add_fault_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="TEXT",
        help='what goes wrong on purpose, such as "status=503 share=0.05 retry-after=2"; repeatable',
    )
    parser.add_argument("--fault-seed", type=int, default=0, metavar="N", help="repeats the same faults (default: 0)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= MOST_SECONDS:  # nor NaN
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0 to {MOST_SECONDS}")
    return number


def _some_seconds(text: str) -> float:
    number = _seconds(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be more than 0 seconds")
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError("must be from 0 to 65535")
    return number


def _model(text: str) -> tuple[str, int | None]:
    name, _, limit = text.partition("=")
    if not 1 <= len(name) <= MAX_MODEL_NAME:
        raise argparse.ArgumentTypeError(
            f"write it as ID, or as ID=TOKENS; an ID has at most {MAX_MODEL_NAME} characters"
        )
    if not limit:
        return name, None
    if int(limit) < FEWEST_TOKENS:
        raise argparse.ArgumentTypeError(f"the limit of tokens must be {FEWEST_TOKENS} or more")
    return name, int(limit)


def listen(host: str, port: int) -> socket.socket:
    """Take a port; warn where it is open to other machines.

    Args:
        host: Address to listen on.
        port: Port; 0 takes a free one.

    Returns:
        A listening socket.

    Raises:
        StandInError: The port is taken, or the address is not one of this machine.
    """
    if not host:
        raise StandInError("Cannot listen: --host is empty.", hint="Check --host.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StandInError(
                f"Port {port} on {host} is already in use.",
                hint="Stop what listens there, or choose another port with --port (0 takes a free one).",
            ) from error
        raise StandInError(f"Cannot listen on {host!r} port {port}: {error}.", hint="Check --host.") from error
    if not ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        logger.warning("Listening on %s: everyone who reaches this machine can use the service", host)
    # asyncio switches Nagle's algorithm off for sockets that say they are TCP, and `create_server` does not say so:
    # with it, the body of an answer waits 40 ms for the client to acknowledge the header.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())


def address(listener: socket.socket) -> str:
    """Return the address at which a client on this machine reaches a listening socket.

    Example:
        >>> with listen("127.0.0.1", 0) as listener:
        ...     address(listener).startswith("http://127.0.0.1:")
        True
    """
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:  # 0.0.0.0 is where to listen, not where to go
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"
