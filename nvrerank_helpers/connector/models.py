"""The hosted models as data, and the rules that turn an address into the URL to post to."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from .errors import ModelRetired

ADDRESS_VARIABLE = "NVIDIA_BASE_URL"  # of your own NIM, where no address is given
CATALOG_VARIABLE = "NVRERANK_CATALOG_URL"  # of a service on this machine that plays the catalog
CATALOG_ADDRESS = "https://ai.api.nvidia.com"
CATALOG_HOSTS = {"ai.api.nvidia.com", "integrate.api.nvidia.com"}
LATER_ADDRESS = "https://api.nvcf.nvidia.com"  # where the catalog's later answers are asked for
LATER_PATH = "/v2/nvcf/pexec/status/"
LOOPBACK_HOSTS = {"127.0.0.1", "::1", "localhost"}
MAX_PASSAGES = 512  # per request; NIM 2.0 documentation, confirmed by users of 1.x
DEFAULT_MODEL = "nvidia/llama-nemotron-rerank-vl-1b-v2"

DialectName = Literal["ranking", "rerank"]


@dataclass(frozen=True)
class HostedModel:
    """A reranking model of NVIDIA's API catalog.

    Attributes:
        id: The `model` value of a request.
        status: `live` (seen working), `retired` (answers 410 or 404), or `unknown`.
        token_limit: Tokens of query and passage together; None where it is not known.
        passage_limit: Passages of one request.
        images: Whether passages may be images; None where it is not known.
        end_of_life: Date as `YYYY-MM-DD`, where it is known.
        replacement: Id of the model to use instead.
        source: Where the status comes from.
        address: The endpoint's whole URL, where it does not follow the naming rule.

    Example:
        A model of your own, or a correction, is one line:

        >>> CATALOG["me/my-model"] = HostedModel("me/my-model", "live", address="https://ai.api.nvidia.com/v1/mine")
        >>> CATALOG.pop("me/my-model").url
        'https://ai.api.nvidia.com/v1/mine'
    """

    id: str
    status: Literal["live", "unknown", "retired"] = "unknown"
    token_limit: int | None = None
    passage_limit: int = MAX_PASSAGES
    images: bool | None = None
    end_of_life: str | None = None
    replacement: str | None = None
    source: str = ""
    address: str | None = None

    @property
    def url(self) -> str:
        """Return the endpoint's whole URL; nothing is appended to it."""
        return self.address or CATALOG_ADDRESS + hosted_path(self.id)


# Statuses as they were known in October 2026. `unknown`: neither seen working nor known to be gone.
CATALOG: dict[str, HostedModel] = {
    model.id: model
    for model in (
        HostedModel(DEFAULT_MODEL, "live", 8192, images=True, source="default of NVIDIA's own retrieval documentation"),
        HostedModel(
            "nvidia/llama-nemotron-rerank-1b-v2", "unknown", 8192, images=False, source="model page: downloadable"
        ),
        HostedModel("nvidia/llama-nemotron-rerank-500m-v2", "unknown", 8192, images=False, source="NIM 1.10 notes"),
        HostedModel(
            "nvidia/llama-3.2-nemoretriever-500m-rerank-v2", "unknown", 8192, images=False, source="model page"
        ),
        HostedModel(
            "nvidia/llama-3.2-nv-rerankqa-1b-v2",
            "retired",
            8192,
            images=False,
            end_of_life="2026-05-18",
            replacement=DEFAULT_MODEL,
            source="the endpoint answers 410",
        ),
        HostedModel(
            "nvidia/llama-3.2-nv-rerankqa-1b-v1",
            "unknown",
            8192,
            images=False,
            replacement=DEFAULT_MODEL,
            source="superseded by v2, which is retired",
        ),
        HostedModel(
            "nvidia/nv-rerankqa-mistral-4b-v3",
            "retired",
            512,
            images=False,
            replacement=DEFAULT_MODEL,
            source="the endpoint answers 404; gone from NVIDIA's clients since 2026-01",
        ),
        HostedModel(
            "nv-rerank-qa-mistral-4b:1",
            "retired",
            512,
            images=False,
            end_of_life="2026-08-24",
            replacement=DEFAULT_MODEL,
            source="banner on the model page",
            address=f"{CATALOG_ADDRESS}/v1/retrieval/nvidia/reranking",
        ),
    )
}


@dataclass(frozen=True)
class Endpoint:
    """Where to post a ranking request.

    Attributes:
        ranking_url: The whole URL to post to.
        service_url: The service's address up to and with `/v1`, where models and health are asked; None for an
            endpoint that offers neither.
        later_url: Where an answer that comes later (status 202) is asked for; None where there is no such thing.
        in_catalog: Whether the URL was found by the model's id: retired models are refused then.
        hosted: Whether this is a host of NVIDIA's API catalog, where an inherited key may go.
        dialect: `ranking` as a NIM speaks it, or `rerank` as NVIDIA's inference gateway, vLLM and others do.
    """

    ranking_url: str
    service_url: str | None = None
    later_url: str | None = None
    in_catalog: bool = False
    hosted: bool = False
    dialect: DialectName = "ranking"


def hosted_path(model: str) -> str:
    """Return the path at which the API catalog serves a model: the naming rule writes dots as underscores.

    Example:
        >>> hosted_path("nvidia/llama-3.2-nv-rerankqa-1b-v2")
        '/v1/retrieval/nvidia/llama-3_2-nv-rerankqa-1b-v2/reranking'
    """
    return f"/v1/retrieval/{model.replace('.', '_')}/reranking"


def known(model: str) -> HostedModel:
    """Return what the table has of a model, or an entry by the naming rule."""
    return CATALOG.get(model, HostedModel(model))


def check_status(model: str) -> None:
    """Raise before anything is sent to a hosted model that is known to be gone; warn of one that is not known at all.

    Raises:
        ModelRetired: With date and replacement, as far as they are known.
    """
    entry = known(model)
    if model not in CATALOG:
        warnings.warn(
            f"{model} is not in the table of hosted models (connector.CATALOG); {entry.url} follows from its name.",
            stacklevel=4,
        )
    if entry.status == "retired":
        since = f" since {entry.end_of_life}" if entry.end_of_life else ""
        raise ModelRetired(
            f"The API catalog no longer serves {model}{since}: {entry.source}",
            hint=f"Use {entry.replacement or 'a live model'}, or pass allow_retired=True if you know better.",
            model=model,
        )


def is_hosted(base_url: str | None) -> bool:
    """Tell whether an address means NVIDIA's API catalog; None does.

    Example:
        >>> is_hosted("https://integrate.api.nvidia.com/v1/"), is_hosted("localhost:1976")
        (True, False)
    """
    return base_url is None or parsed_address(base_url).hostname in CATALOG_HOSTS


def default_model(base_url: str | None) -> str:
    """Return the model to ask where none was named: empty where the address does not tell.

    Example:
        >>> default_model("https://ai.api.nvidia.com/v1/retrieval/nvidia/llama-nemotron-rerank-1b-v2/reranking")
        'nvidia/llama-nemotron-rerank-1b-v2'
    """
    if not is_hosted(base_url):
        return ""
    path = parsed_address(base_url or CATALOG_ADDRESS).path
    if not path.endswith("/reranking"):
        return DEFAULT_MODEL
    return next((model.id for model in CATALOG.values() if urlsplit(model.url).path == path), "")


def endpoint(base_url: str | None, model: str | None, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """Work out where to post.

    Args:
        base_url: A NIM's address with or without scheme, `/v1`, `/ranking` or trailing slash; the whole URL of a
            `/reranking` or `/rerank` endpoint; any address of the API catalog; or None, which means the catalog.
        model: Id of the model; the catalog has one URL a model. None means its default.
        environ: Where `NVRERANK_CATALOG_URL` is looked up: the address of a local service that plays the catalog.

    Returns:
        The endpoint. Its URLs never hold `//ranking` or `/v1/v1`.

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
        return Endpoint("/".join([address, *segments]))
    if segments[-1:] == ["rerank"]:
        return Endpoint("/".join([address, *segments]), dialect="rerank")
    if segments[-1:] in (["ranking"], ["models"]):
        segments.pop()
    if segments[-1:] != ["v1"]:
        segments.append("v1")
    service_url = "/".join([address, *segments])
    return Endpoint(f"{service_url}/ranking", service_url)


def _hosted_endpoint(base_url: str | None, model: str, environ: Mapping[str, str]) -> Endpoint:
    parts = parsed_address(base_url or CATALOG_ADDRESS)
    if parts.path.endswith("/reranking"):
        return Endpoint(f"https://{parts.hostname}{parts.path}", later_url=LATER_ADDRESS + LATER_PATH, hosted=True)
    url = known(model).url
    local = environ.get(CATALOG_VARIABLE, "").rstrip("/")
    if not local:
        return Endpoint(url, later_url=LATER_ADDRESS + LATER_PATH, in_catalog=True, hosted=True)
    if parsed_address(local).hostname not in LOOPBACK_HOSTS:
        raise ValueError(
            f"{CATALOG_VARIABLE} is {local!r}: only a service on this machine (127.0.0.1, localhost) may play "
            "the API catalog. Use base_url for any other service."
        )
    return Endpoint(local + urlsplit(url).path, later_url=local + LATER_PATH, in_catalog=True)


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
    if parts.username or parts.password:
        raise ValueError("base_url holds a user name or password: pass a key as api_key instead")
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"base_url {address!r} starts with {parts.scheme}://, use http:// or https://")
    if not parts.hostname or port == 0 or any(character.isspace() for character in text):
        raise ValueError(f"base_url {address!r} is not an address: write it like http://localhost:1976/v1")
    if parts.query or parts.fragment:
        raise ValueError(f"base_url {address!r} has a query or fragment: give only host, port and path")
    return parts
