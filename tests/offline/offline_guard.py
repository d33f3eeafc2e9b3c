"""Stop every connection of a Python process that would leave this machine, and note it in a log.

`install` adds an audit hook: Python calls it before it connects, sends or looks a name up, also from libraries.
Native code that opens its own sockets is not seen.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path

LOG_VARIABLE = "NVRERANK_OFFLINE_LOG"

# Events and their arguments: https://docs.python.org/3/library/audit_events.html
SENDING = {"socket.connect", "socket.sendto", "socket.sendmsg"}
LOOKING_UP = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}


def find_host(event: str, arguments: tuple[object, ...]) -> object:
    """Return the host that an audit event names; None if it names none, as for a Unix socket."""
    if event in SENDING:
        address = arguments[1]
        return address[0] if isinstance(address, tuple) and address else None
    return arguments[0] if event in LOOKING_UP else None


def is_local(host: object) -> bool:
    """Return whether a host is this machine; anything but a name or an address in text or bytes is."""
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("ascii", "replace")
    if not isinstance(host, str):
        return True
    name = host.partition("%")[0].rstrip(".").lower()
    if name in {"", "localhost"} or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def check(event: str, arguments: tuple[object, ...]) -> None:
    """Audit hook: let local targets pass, and refuse others.

    Raises:
        RuntimeError: For a target elsewhere. It isn't an OSError, which a client would take for a network that is down,
            and try again. Where it is swallowed, the log still makes the run fail.
    """
    host = find_host(event, arguments)
    if is_local(host):
        return
    line = f"{event} {host!r} in {' '.join(sys.orig_argv)[:200]!r}\n"
    if log := os.environ.get(LOG_VARIABLE):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(line)
    raise RuntimeError(f"The tests run offline, and this would leave the machine: {line}")


def install() -> None:
    """Watch this process from now on; an audit hook cannot be removed."""
    sys.addaudithook(check)
