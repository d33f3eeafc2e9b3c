"""What to do about an error, chosen in one place from what went wrong and who was asked."""

import re
from collections.abc import Mapping

from .endpoints import Endpoint
from .errors import (
    Forbidden,
    InvalidAnswer,
    ModelRetired,
    NotFound,
    Overloaded,
    PassageTooLong,
    PaymentRequired,
    RateLimited,
    RerankError,
    ServerError,
    ServiceUnreachable,
    Unauthorized,
)

# Where NVIDIA's API catalog was asked; the classes' own hints serve for the rest.
_CATALOG: Mapping[type[RerankError], str] = {
    Unauthorized: "Set NVIDIA_API_KEY to a valid key (it starts with nvapi-); make one at build.nvidia.com.",
    NotFound: "Check the model's id; in the API catalog it may not be enabled for your account, or be withdrawn.",
    RateLimited: (
        "Wait a minute, send fewer requests at once (lower `max_concurrency`, or share a RateLimit), or run your own "
        "NIM. Users report 40 requests a minute on the free tier."
    ),
    Overloaded: "Try again in a minute, or run your own NIM.",
    ServerError: "Try again in a minute. If the error stays, ask NVIDIA's support with the request id.",
    ServiceUnreachable: (
        "Is there a network, or a proxy to name in HTTPS_PROXY? To work without either, run your own NIM, or in the "
        "course the local stand-in."
    ),
}

# Where a service of the reader's own was asked: neither a key of the environment nor NVIDIA's support helps there.
_OWN: Mapping[type[RerankError], str] = {
    Unauthorized: "If this service needs a key, pass it as api_key=. A key in the environment is never sent here.",
    Forbidden: "The service knows the key, and the key may not do this: pass another api_key=, or ask its operator.",
    PaymentRequired: "Ask whoever operates this service: it reports an unpaid account.",
    ModelRetired: "Name a model that this service still has; `available_models` shows its list.",
    RateLimited: "Send fewer requests at once (lower `max_concurrency`), share a RateLimit, or wait.",
}

_NOT_FOUND = (
    "Nothing ranks at this path. A NIM ranks at /v1/ranking (base_url ends in /v1); vLLM and LiteLLM rank at "
    "/v1/rerank, Infinity and Text Embeddings Inference at /rerank: give base_url with that ending."
)
_WRONG_MODEL = "Name a model that the service has with model=; `available_models` shows its list."
_REDIRECT = "Give the address that the service names as base_url: requests with a key don't follow redirects."
_NO_TRUNCATION = (
    "Split long passages into smaller nodes. Where the service can cut them (vLLM, Text Embeddings Inference), "
    'truncate="END" does so.'
)
_BUSY = "Wait until the service has loaded its model, or send fewer requests at once."
_RUNNING = "Is the service running, and is the address right? Many services need minutes to load their model."
_PROXY_LOGIN = "The proxy in between wants a login: put it into HTTPS_PROXY, or name the host in NO_PROXY."
_PLAIN_TO_TLS = "The port speaks https: write base_url with https://."
_TLS_TO_PLAIN = "The port speaks plain http: write base_url with http://."
_CERTIFICATE = (
    "This machine doesn't trust the service's certificate: name the certificate of your company or service in "
    "SSL_CERT_FILE or SSL_CERT_DIR, or pass http_client=httpx.Client(verify=...)."
)
_CERTIFICATE_FILE = "SSL_CERT_FILE or SSL_CERT_DIR can't be read as certificates: correct or unset it."
_NAME = "No such host: check the spelling of base_url, and the network or VPN."
_PROXY = "Is the proxy running? Correct {proxy} in the environment, or name the host in NO_PROXY."
_PROXY_KIND = "Set HTTPS_PROXY and HTTP_PROXY to an http:// proxy, name the host in NO_PROXY, or pass http_client=."
_CLIENT = "The client that was passed can't be used here: make one for each event loop, and keep it open."

# Words in the cause of a failed connection, and the advice for them: the first that is found counts.
_CAUSES: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern, re.IGNORECASE), advice)
    for pattern, advice in (
        (r"SSL_CERT_(FILE|DIR)", _CERTIFICATE_FILE),
        (r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|hostname mismatch", _CERTIFICATE),
        (r"WRONG_VERSION_NUMBER|record.layer.failure|UNKNOWN_PROTOCOL|packet.length.too.long", _TLS_TO_PLAIN),
        (r"socksio", 'A SOCKS proxy needs: pip install "httpx[socks]". Or name the host in NO_PROXY.'),
        (r"unsupported proxy|unknown scheme for proxy|socks", _PROXY_KIND),
        (r"name or service not known|getaddrinfo|nodename nor servname|name resolution|no address assoc", _NAME),
        (r"client has been closed|event loop|attached to a different|is bound to", _CLIENT),
    )
]
_TLS_WANTED = re.compile(
    r"plain HTTP request was sent to HTTPS|HTTP request to an HTTPS server|use https", re.IGNORECASE
)


def advise(error: RerankError, target: Endpoint, cause: str = "", proxy: str | None = None) -> str:
    """Choose what to do about an error: something that is possible at this address.

    `cause` is why the connection failed, as the HTTP library says it; `proxy` was in between.
    """
    message = error.detail or ""
    if error.status is not None and (special := _for_status(error, target, message)):
        return special
    if isinstance(error, ServiceUnreachable | InvalidAnswer) and cause:
        found = next((advice for pattern, advice in _CAUSES if pattern.search(cause)), None)
        if proxy and found in (None, _NAME):
            return _PROXY.format(proxy=proxy)
        if found:
            return found
    if isinstance(error, ServiceUnreachable) and target.dialect == "rerank":
        return _RUNNING
    table = _CATALOG if target.hosted or target.in_catalog else _OWN
    return table.get(type(error), error.hint)


def _for_status(error: RerankError, target: Endpoint, message: str) -> str | None:
    if 300 <= (error.status or 0) < 400:
        return _REDIRECT
    if error.status == 407:
        return _PROXY_LOGIN
    if error.status == 400 and _TLS_WANTED.search(message):
        return _PLAIN_TO_TLS
    if error.status in (404, 405, 501) and not (target.hosted or target.in_catalog):
        return _WRONG_MODEL if "model" in message.lower() else _NOT_FOUND
    if target.dialect == "rerank":
        at_rerank: Mapping[type[RerankError], str] = {PassageTooLong: _NO_TRUNCATION, Overloaded: _BUSY}
        return at_rerank.get(type(error))
    return None
