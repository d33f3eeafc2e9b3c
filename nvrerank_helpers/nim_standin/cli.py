"""The command line of the stand-in, and the socket that it asks for."""

import argparse
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable, Sequence

from nvrerank_helpers.connector import DEFAULT_MODEL
from nvrerank_helpers.nim_standin.process import StandInError
from nvrerank_helpers.nim_standin.profiles import MAX_MODEL_NAME, NIM_1_10, PROFILES, REQUESTS_PER_MINUTE

logger = logging.getLogger("nvrerank_helpers.nim_standin")

MIN_TOKENS = 4
"""Three special tokens of a query with its passage, and one of the query."""


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Example:
        >>> parse_options(["--model", "me/small=512"]).model
        {'me/small': 512}
    """
    parser = argparse.ArgumentParser(
        prog="python -m nvrerank_helpers.nim_standin",
        description="A local service that speaks the protocol of an NVIDIA reranking NIM.",
    )
    _add_service_options(parser)
    _add_engine_options(parser)
    options = parser.parse_args(arguments)
    options.model = dict(options.model or [(DEFAULT_MODEL, None)])
    return options


def _add_service_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=_between(int, 0, 65535), default=1976, help="0 takes a free port (default: %(default)s)"
    )
    parser.add_argument(
        "--behaviour", choices=PROFILES, default=NIM_1_10.name, help="what to imitate (default: %(default)s)"
    )
    parser.add_argument(
        "--model",
        type=_parse_model,
        action="append",
        metavar="ID[=TOKENS]",
        help=f"model to serve, with a token limit if it differs from the model's own; repeatable "
        f"(default: {DEFAULT_MODEL})",
    )
    parser.add_argument(
        "--requests-per-minute",
        type=_between(int, 1),
        default=REQUESTS_PER_MINUTE,
        metavar="N",
        help="rate limit of one key when imitating the catalog (default: %(default)s)",
    )
    parser.add_argument(
        "--announce",
        choices=("listening", "ready"),
        default="ready",
        help="when to write the address to standard output: once it listens, or once it can rank (default)",
    )
    parser.add_argument("--stop-at-eof", action="store_true", help="stop when standard input closes")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="TEXT",
        help='inject a fault, such as "status=503 share=0.05 retry-after=2"; repeatable',
    )


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scorer",
        default="late-interaction",
        metavar="NAME",
        help="relevance model: late-interaction (default), or, with the extra `cross-encoder`, cross-encoder: followed "
        "by a folder or a hub id",
    )
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="run the code that comes with a cross-encoder's weights"
    )
    parser.add_argument(
        "--threads", type=_between(int, 1), metavar="N", help="cores to use (default: all that this process may use)"
    )
    parser.add_argument(
        "--cache-mb",
        type=_between(int, 1),
        default=256,
        metavar="N",
        help="memory for the vectors of passages, in MiB (default: %(default)s)",
    )
    parser.add_argument(
        "--no-kept-vectors",
        dest="keep_vectors",
        action="store_false",
        help="don't keep the vectors of passages between runs in your cache folder",
    )
    parser.add_argument(
        "--load-seconds",
        type=_between(float, 0, 3600),
        default=0.0,
        metavar="N",
        help="make the loading phase longer, for a lesson",
    )


def _between(kind: type[int] | type[float], least: int, most: float = float("inf")) -> Callable[[str], float]:
    def parse_number(text: str) -> float:
        number = kind(text)
        if not least <= number <= most:  # nor NaN
            limits = f"{least} or more" if most == float("inf") else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"must be {limits}")
        return number

    return parse_number


def _parse_model(text: str) -> tuple[str, int | None]:
    name, _, limit = text.partition("=")
    if not 1 <= len(name) <= MAX_MODEL_NAME:
        raise argparse.ArgumentTypeError(
            f"write it as ID, or as ID=TOKENS; an ID has at most {MAX_MODEL_NAME} characters"
        )
    if not limit:
        return name, None
    if int(limit) < MIN_TOKENS:
        raise argparse.ArgumentTypeError(f"the token limit must be {MIN_TOKENS} or more")
    return name, int(limit)


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket (port 0 takes a free one), and warn if other machines can reach it."""
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
    # asyncio turns Nagle's algorithm off for sockets that say they are TCP, and `create_server` does not say so:
    # with it, the body of a response waits 40 ms for the client to acknowledge the header.
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=listener.detach())


def format_url(listener: socket.socket) -> str:
    """Return the URL at which a client on this machine reaches a listening socket.

    Example:
        >>> with listen("127.0.0.1", 0) as listener:
        ...     format_url(listener).startswith("http://127.0.0.1:")
        True
    """
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:  # a client cannot connect to 0.0.0.0
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"
