"""The hosted models as data, and the rules that turn an address into the URL to post to."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlsplit

CATALOG_ADDRESS = "https://ai.api.nvidia.com"
CATALOG_HOSTS = {"ai.api.nvidia.com", "integrate.api.nvidia.com"}
LOOPBACK_HOSTS = {"127.0.0.1", "::1", "localhost"}
DEFAULT_MODEL = "nvidia/llama-nemotron-rerank-vl-1b-v2"
MAX_PASSAGES = 512  # per request; NIM 2.0 documentation, confirmed by users of 1.x


@dataclass(frozen=True)
class HostedModel:
    """A reranking model of NVIDIA's API catalog.

    Attributes:
        id: The `model` value of a request.
        status: `live` (seen working), `retired` (answers 410 or 404), or `unknown`.
        token_limit: Tokens of query and passage together.
        end_of_life: Date as `YYYY-MM-DD`, where it is known.
        source: Where the status comes from.
    """

    id: str
    status: Literal["live", "unknown", "retired"]
    token_limit: int
    end_of_life: str | None = None
    source: str = ""


CATALOG: dict[str, HostedModel] = {
    model.id: model
    for model in (
        HostedModel(DEFAULT_MODEL, "live", 8192, source="default of NVIDIA's own retrieval documentation, 2026-08"),
        HostedModel("nvidia/llama-nemotron-rerank-1b-v2", "unknown", 8192, source="model page: downloadable"),
        HostedModel(
            "nvidia/llama-3.2-nv-rerankqa-1b-v2", "retired", 8192, "2026-05-18", source="the endpoint answers 410"
        ),
        HostedModel("nvidia/nv-rerankqa-mistral-4b-v3", "retired", 512, source="gone from NVIDIA's clients, 2026-01"),
    )
}


@dataclass(frozen=True)
class Endpoint:
    """Where to post a ranking request.

    Attributes:
        ranking_url: The whole URL of the ranking route.
        service_url: The service's address up to and with `/v1`, where models and health are asked; None for an
            endpoint of the API catalog, which offers neither.
        hosted: Whether this is NVIDIA's API catalog, where an inherited key may go.
    """

    ranking_url: str
    service_url: str | None
    hosted: bool


def hosted_path(model: str) -> str:
    """Return the path at which the API catalog serves a model: the naming rule writes dots as underscores.

    Example:
        >>> hosted_path("nvidia/llama-3.2-nv-rerankqa-1b-v2")
        '/v1/retrieval/nvidia/llama-3_2-nv-rerankqa-1b-v2/reranking'
    """
    return f"/v1/retrieval/{model.replace('.', '_')}/reranking"


def is_hosted(base_url: str | None) -> bool:
    """Tell whether an address means NVIDIA's API catalog; None does.

    Example:
        >>> is_hosted("https://integrate.api.nvidia.com/v1/"), is_hosted("localhost:1976")
        (True, False)
    """
    return base_url is None or parsed_address(base_url).hostname in CATALOG_HOSTS


def endpoint(base_url: str | None, model: str | None, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """Work out where to post.

    Args:
        base_url: A NIM's address with or without scheme, `/v1`, `/ranking` or trailing slash; the whole URL of a
            `/reranking` endpoint; any address of the API catalog; or None, which means the catalog.
        model: Id of the model; the catalog has one URL a model. None means its default.
        environ: Where `NVRERANK_CATALOG_URL` is looked up: the address of a local service that plays the catalog.

    Returns:
        The endpoint. It never holds `//ranking` or `/v1/v1`.

    Raises:
        ValueError: The address cannot be used; the message says why.

    Example:
        >>> endpoint("localhost:1976", None).ranking_url
        'http://localhost:1976/v1/ranking'
    """
    if is_hosted(base_url):
        return _hosted_endpoint(base_url, model or DEFAULT_MODEL, environ)
    parts = parsed_address(base_url or "")
    segments = [segment for segment in parts.path.split("/") if segment]
    address = f"{parts.scheme}://{parts.netloc}"
    if segments[-1:] == ["reranking"]:
        return Endpoint("/".join([address, *segments]), None, hosted=False)
    if segments[-1:] in (["ranking"], ["models"]):
        segments.pop()
    if segments[-1:] != ["v1"]:
        segments.append("v1")
    service_url = "/".join([address, *segments])
    return Endpoint(f"{service_url}/ranking", service_url, hosted=False)


def _hosted_endpoint(base_url: str | None, model: str, environ: Mapping[str, str]) -> Endpoint:
    parts = parsed_address(base_url or CATALOG_ADDRESS)
    if parts.path.endswith("/reranking"):
        return Endpoint(f"https://{parts.hostname}{parts.path}", None, hosted=True)
    address = environ.get("NVRERANK_CATALOG_URL", CATALOG_ADDRESS).rstrip("/")
    local = address != CATALOG_ADDRESS
    if local and parsed_address(address).hostname not in LOOPBACK_HOSTS:
        raise ValueError(
            f"NVRERANK_CATALOG_URL is {address!r}: only a service on this machine (127.0.0.1, localhost) may play "
            "the API catalog. Use base_url for any other service."
        )
    return Endpoint(address + hosted_path(model), None, hosted=not local)


def parsed_address(address: str) -> SplitResult:
    """Split an address and refuse what cannot be one.

    Args:
        address: Host with or without scheme, port and path.

    Returns:
        The parts, with `http` where no scheme was given.

    Raises:
        ValueError: Not an address, or one that holds credentials; the message says what is wrong.

    Example:
        >>> parsed_address("localhost:1976/v1").netloc
        'localhost:1976'
    """
    text = address.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:
        raise ValueError(f"base_url {address!r} is not an address: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"base_url {address!r} starts with {parts.scheme}://, use http:// or https://")
    if not parts.hostname or port == 0 or any(character.isspace() for character in text):
        raise ValueError(f"base_url {address!r} is not an address: write it like http://localhost:1976/v1")
    if parts.username or parts.password:
        raise ValueError("base_url holds a user name or password: pass a key as api_key instead")
    if parts.query or parts.fragment:
        raise ValueError(f"base_url {address!r} has a query or fragment: give only host, port and path")
    return parts
