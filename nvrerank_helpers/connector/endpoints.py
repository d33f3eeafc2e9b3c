"""From an address as people write it to the URLs that are asked."""

import ipaddress
import os
import re
import socket
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from .models import CATALOG, CATALOG_ADDRESS, DEFAULT_MODEL, find_model

ADDRESS_VARIABLE = "NVIDIA_BASE_URL"  # of your own NIM, where no address is given
CATALOG_VARIABLE = "NVRERANK_CATALOG_URL"  # of a service on this machine that plays the catalog
LOOPBACK_NAMES = {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}
CATALOG_HOSTS = {"ai.api.nvidia.com", "integrate.api.nvidia.com"}
LATER_ADDRESS = "https://api.nvcf.nvidia.com"  # where the catalog's deferred answers are asked for
LATER_PATH = "/v2/nvcf/pexec/status/"

Route = Literal["ranking", "rerank"]

_models: dict[str, str] = {}  # by origin: models that this process chose for an address, as by `connect`


@dataclass(frozen=True)
class Endpoint:
    """Where to send a ranking request."""

    ranking_url: str  # the whole URL to post to
    service_url: str | None = None  # a NIM's address up to and with /v1, where health is asked
    listing_urls: tuple[str, ...] = ()  # where a service may say which models it serves
    later_url: str | None = None  # where a deferred answer (status 202) is asked for
    in_catalog: bool = False  # found by the model's id: retired models are refused then
    hosted: bool = False  # a host of NVIDIA's API catalog, where an inherited key may go
    dialect: Route = "ranking"  # a NIM's, or that of vLLM, TEI and others
    model: str = ""  # the model to ask; empty where only the service's own list says

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return get_origin(self.ranking_url)


def get_origin(url: str) -> str:
    """Return scheme, host and port of a whole URL."""
    return "/".join(url.split("/", 3)[:3])


def is_loopback(host: str | None) -> bool:
    """Return whether a host name means this machine."""
    name = unicodedata.normalize("NFKC", host or "").rstrip(".").lower()
    if name in LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:  # 127.1, 0x7f000001 and other forms that the system understands
            address = ipaddress.ip_address(socket.inet_aton(name))
        except (OSError, UnicodeError):
            return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def is_hosted(base_url: str | None) -> bool:
    """Return whether an address means NVIDIA's API catalog; None does."""
    return base_url is None or parse_address(base_url).hostname in CATALOG_HOSTS


def remember_model(target: Endpoint, model: str) -> None:
    """Use a model wherever this process asks the same scheme, host and port and names none."""
    _models[target.origin] = model


def resolve_endpoint(
    base_url: str | None, model: str | None, environ: Mapping[str, str] = os.environ, name: str = "base_url"
) -> Endpoint:
    """Work out where to post, and which model to ask.

    Args:
        base_url: A NIM's address with or without scheme, `/v1`, `/v1/ranking` or trailing slash; the whole URL of a
            route that ends in `/ranking`, `/rankings`, `/reranking` or `/rerank`; any address of the API catalog; or
            None, which means the catalog.
        model: Id of the model; the catalog has one URL for each. None takes the model that was remembered for this
            address, and in the catalog otherwise its default.
        environ: Where `NVRERANK_CATALOG_URL` is looked up: the address of a local service that plays the catalog.
        name: What an error calls the address.

    Returns:
        The endpoint. Its URLs never contain `//ranking` or `/v1/v1`.

    Raises:
        ValueError: The address cannot be used; the message says why.

    Example:
        >>> resolve_endpoint("localhost:1976", None).ranking_url
        'http://localhost:1976/v1/ranking'
    """
    parts = parse_address(CATALOG_ADDRESS if base_url is None else base_url, name)
    if parts.hostname not in CATALOG_HOSTS:
        target = _resolve_service(parts)
        return replace(target, model=model or _models.get(target.origin, ""))
    target = _resolve_catalog(parts, model or DEFAULT_MODEL, environ)
    if not model and target.origin in _models:
        return _resolve_catalog(parts, _models[target.origin], environ)
    if not model and parts.path.endswith("/reranking"):
        model = next((known.id for known in CATALOG.values() if urlsplit(known.url).path == parts.path), "")
        return replace(target, model=model)
    return target


def _resolve_service(parts: SplitResult) -> Endpoint:
    origin, path = f"{parts.scheme}://{parts.netloc}", [segment for segment in parts.path.split("/") if segment]
    if path[-1:] == ["rerank"]:  # vLLM and LiteLLM list models at /v1/models, Infinity at /models, TEI at /info
        versioned = path[-2:-1] in (["v1"], ["v2"])
        root = "/".join([origin, *path[: -2 if versioned else -1]])
        listings = tuple(f"{root}/{route}" for route in ("v1/models", "models", "info")[: 1 if versioned else 3])
        return Endpoint("/".join([origin, *path]), None, listings, dialect="rerank")
    if path[-1:] == ["reranking"] or (path[-1:] in (["ranking"], ["rankings"]) and path[-2:-1] != ["v1"]):
        return Endpoint("/".join([origin, *path]))
    if path[-1:] in (["ranking"], ["rankings"], ["models"]):
        path.pop()
    if path[-1:] != ["v1"]:
        path.append("v1")
    service_url = "/".join([origin, *path])
    return Endpoint(f"{service_url}/ranking", service_url, (f"{service_url}/models",))


def _resolve_catalog(parts: SplitResult, model: str, environ: Mapping[str, str]) -> Endpoint:
    later = LATER_ADDRESS + LATER_PATH
    if parts.path.endswith("/reranking"):
        return Endpoint(f"https://{parts.hostname}{parts.path}", later_url=later, hosted=True, model=model)
    url = find_model(model).url
    local = environ.get(CATALOG_VARIABLE, "").strip()
    if not local:
        return Endpoint(url, later_url=later, in_catalog=True, hosted=True, model=model)
    played = parse_address(local, CATALOG_VARIABLE)
    if not is_loopback(played.hostname):
        raise ValueError(
            f"{CATALOG_VARIABLE} is {local!r}: only a service on this machine (127.0.0.1, localhost) may play "
            "the API catalog. Use base_url for any other service."
        )
    local = f"{played.scheme}://{played.netloc}{played.path.rstrip('/').removesuffix('/v1')}"
    return Endpoint(local + urlsplit(url).path, later_url=local + LATER_PATH, in_catalog=True, model=model)


def parse_address(address: str, name: str = "base_url") -> SplitResult:
    """Split an address, with `http` where it has no scheme, and raise `ValueError` for what cannot be one."""
    text = address.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:
        raise ValueError(f"Invalid {name}: {address!r} is not an address ({error})") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"Invalid {name}: it contains a user name or password. Pass a key as api_key instead.")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"Invalid {name}: {address!r} starts with {parts.scheme}://. Use http:// or https://.")
    odd = re.match(r"https?:(?!//)", text, re.IGNORECASE) or re.search(r"[\s\\\x00-\x1f\x7f]", text)
    if odd or not parts.hostname or port == 0:
        raise ValueError(f"Invalid {name}: {address!r} is not an address. Write it like http://localhost:1976/v1.")
    if parts.query or parts.fragment:
        raise ValueError(f"Invalid {name}: {address!r} has a query or fragment. Give only host, port and path.")
    return parts
