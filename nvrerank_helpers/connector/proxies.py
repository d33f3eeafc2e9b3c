"""The proxy that the environment names for an address. A service on this machine never has one."""

import ipaddress
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from .endpoints import is_loopback


@dataclass(frozen=True)
class Proxy:
    """A proxy: its whole URL, and the variable that names it. The text shows no credentials."""

    url: str
    variable: str

    def __repr__(self) -> str:
        return f"Proxy({self})"

    def __str__(self) -> str:
        scheme, _, rest = self.url.partition("://")
        return f"{self.variable} ({scheme}://{rest.rpartition('@')[2]})"


def find_proxy(url: str) -> Proxy | None:
    """Return the proxy to reach an address through; None means directly.

    Reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY in either case, and on Windows and macOS the system's
    settings. NO_PROXY may contain host names, their endings, addresses and networks such as 10.0.0.0/8.

    Example:
        >>> find_proxy("http://localhost:1976/v1/ranking") is None
        True
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host):
        return None
    named = getproxies()
    scheme = parts.scheme if parts.scheme in named else "all"
    address = named.get(scheme, "").strip()
    if not address or _is_excepted(host, parts.netloc, named.get("no", "")) or proxy_bypass(parts.netloc):
        return None
    return Proxy(address if "://" in address else f"http://{address}", f"{scheme.upper()}_PROXY")


def _is_excepted(host: str, host_and_port: str, exceptions: str) -> bool:
    for entry in exceptions.lower().replace(",", " ").split():
        name = entry.lstrip("*").lstrip(".")
        if entry == "*" or name in (host, host_and_port.lower()) or (name and host.endswith(f".{name}")):
            return True
        with suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(name.strip("[]"), strict=False):
                return True
    return False
