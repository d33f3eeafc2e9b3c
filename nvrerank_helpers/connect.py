"""Which service to use: your own NIM, NVIDIA's API catalog, or the local stand-in."""

import os
from dataclasses import asdict, dataclass
from html import escape
from threading import Lock
from urllib.parse import urlsplit

from pydantic import SecretStr

from nvrerank_helpers.connector import (
    ADDRESS_VARIABLE,
    CATALOG_VARIABLE,
    DEFAULT_MODEL,
    KEY_VARIABLE,
    Endpoint,
    NotFound,
    ServiceUnreachable,
    find_key,
    is_hosted,
    remember_key,
    remember_model,
    resolve_endpoint,
    select_key,
)
from nvrerank_helpers.nim_standin import StandIn, StandInError

STAND_IN_MODELS = "stand-in/"  # begins the ids of models that no NIM serves


@dataclass(frozen=True)
class Service:
    """The service that this process reranks with.

    Attributes:
        service: What it is: `your own NIM` (or `your own stand-in`), `NVIDIA's API catalog` or `the local stand-in`.
        address: Where it listens; pass it on as `NVIDIARerank(base_url=service.address)`, or leave `base_url` out.
        model: The model that ranks.
        why: Why this service was chosen.

    Example:
        >>> print(Service("your own NIM", "http://localhost:1976/v1", "my-model", "base_url was given"))
        your own NIM at http://localhost:1976/v1, model my-model (base_url was given)
    """

    service: str
    address: str
    model: str
    why: str

    def __str__(self) -> str:
        return f"{self.service} at {self.address}, model {self.model} ({self.why})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in asdict(self).items())
        return f"<table>{rows}</table>"


def connect(base_url: str | None = None, api_key: str | None = None, model: str | None = None) -> Service:
    """Choose a service and point this process at it.

    In this order: your own NIM at `base_url` or at the environment's `NVIDIA_BASE_URL`, which is asked for its model;
    NVIDIA's API catalog, if `NVIDIA_API_KEY` is set, which is not asked before the first ranking; else the stand-in,
    which is started on this machine, plays the catalog for this process, and ends with it. After it
    `NVIDIARerank(top_n=4)` is the same text everywhere.

    Args:
        base_url: Address of your own service: a NIM, such as `http://localhost:1976/v1`, or a `/rerank` route.
        api_key: The key for it, or for the API catalog; later rerankers of this process use it for that address.
        model: Id of the model; None takes the first that your own service lists, or the catalog's current one.

    Returns:
        What was chosen and why; one line as text, a small table in Jupyter.

    Raises:
        ValueError: The address or the key is malformed, or the API catalog was named and no key was found.
        ServiceUnreachable: Your own NIM does not answer.
        RerankError: It answers, but not as a reranking NIM.
        StandInError: The stand-in cannot start, for example because the extra `course` is not installed.
    """
    address = base_url or os.environ.get(ADDRESS_VARIABLE)
    given = find_key(api_key, {})
    if address and not is_hosted(address):
        return _own_nim(address, given, model, "base_url was given" if base_url else f"{ADDRESS_VARIABLE} is set")
    if base_url or given or find_key():
        return _api_catalog(base_url, given, model)
    return _stand_in()


def _own_nim(address: str, given: SecretStr | None, model: str | None, why: str) -> Service:
    from nvrerank_helpers.connector import RankingClient  # aiohttp: the stand-in's process starts without it

    target = resolve_endpoint(address, None)
    _remember(target, given, model)
    try:
        with RankingClient(target, model, api_key=select_key(target, None)) as client:
            model = client.model
            served = client.model_ids() if target.listing_urls else [model]
    except ServiceUnreachable as error:
        hint = (
            "Start the NIM, or correct the address. A NIM needs minutes to load: wait for GET /v1/health/ready. "
            f"Without base_url and {ADDRESS_VARIABLE}, connect() starts the local stand-in instead."
        )
        raise ServiceUnreachable(error.args[0], url=error.url, hint=hint) from error
    if model not in served:
        raise NotFound(f"The service does not serve {model}: it lists {', '.join(served)}", url=target.ranking_url)
    service_url = target.service_url or target.ranking_url
    os.environ[ADDRESS_VARIABLE] = service_url
    kind = "your own NIM" if target.dialect == "ranking" else "your own reranking service"
    if any(name.startswith(STAND_IN_MODELS) for name in served):
        kind = "your own stand-in"
    return Service(kind, service_url, model, why)


def _api_catalog(base_url: str | None, given: SecretStr | None, named: str | None) -> Service:
    if os.environ.get(CATALOG_VARIABLE) == _started.address:
        os.environ.pop(CATALOG_VARIABLE, None)  # a stand-in of an earlier call must not go on playing the catalog
    model = named or DEFAULT_MODEL
    target = resolve_endpoint(base_url, model)
    _remember(target, given, named)
    select_key(target, None)  # says what to do where a key is missing
    if not target.hosted:
        return Service(
            "a service that plays NVIDIA's API catalog", target.ranking_url, model, f"{CATALOG_VARIABLE} is set"
        )
    why = "api_key was given" if given else f"{KEY_VARIABLE} is set"
    return Service("NVIDIA's API catalog", target.ranking_url, model, why)


def _remember(target: Endpoint, given: SecretStr | None, model: str | None) -> None:
    if given:
        remember_key(target, given)
    if model:
        remember_model(target, model)


def _stand_in() -> Service:
    why = f"{KEY_VARIABLE} is not set"
    if not os.environ.get(ADDRESS_VARIABLE):
        why = f"neither {ADDRESS_VARIABLE} nor {KEY_VARIABLE} is set"
    address = stand_in_address()
    if address == _started.address:
        os.environ[CATALOG_VARIABLE] = address
    else:
        why = f"{why}; {f'{CATALOG_VARIABLE} is set'}"
    return Service("the local stand-in", f"{address}/v1", f"{DEFAULT_MODEL}, played by all-MiniLM-L6-v2", why)


def stand_in_address() -> str:
    """Return the address, without `/v1`, of the stand-in that plays the catalog for this process.

    The one that `NVRERANK_CATALOG_URL` names, or else this process's own, which is started unless it runs.

    Raises:
        StandInError: It cannot start.
    """
    named = os.environ.get(CATALOG_VARIABLE, "").rstrip("/")
    return _started.ensure() if named in ("", _started.address) else named


class _Started:
    """The one stand-in of this process."""

    def __init__(self) -> None:
        self._standin: StandIn | None = None
        self._lock = Lock()

    @property
    def address(self) -> str | None:
        return self._standin.base_url.removesuffix("/v1") if self._standin else None

    def ensure(self) -> str:
        """Start the stand-in unless it runs, and return its address without `/v1`."""
        with self._lock:
            if self._standin is None:
                self._standin = StandIn()
            elif not self._standin.running:
                self._standin = self._again(self._standin)
            return self._standin.base_url.removesuffix("/v1")

    @staticmethod
    def _again(ended: StandIn) -> StandIn:
        """Start it where it was, so that rerankers that were made before find it again."""
        ended.close()
        try:
            return StandIn(f"--port={urlsplit(ended.base_url).port}")
        except StandInError:  # somebody else has the port by now
            return StandIn()


_started = _Started()
