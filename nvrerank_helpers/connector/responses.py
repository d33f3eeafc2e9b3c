"""From what came back, or did not, to its content or to an error of ours."""

import httpx
from pydantic import SecretStr

from .errors import (
    InvalidAnswer,
    RerankError,
    RerankTimeout,
    ServiceUnreachable,
    StatusError,
    status_error,
)
from .retries import GaveUp

UNREACHABLE_HOSTED = (
    "Is there a network, or a proxy to name in HTTPS_PROXY? Without NVIDIA_API_KEY in the environment, "
    "nvrerank_helpers.connect() starts the local stand-in instead."
)


def content_of(response: httpx.Response, key: SecretStr | None) -> bytes:
    """Return the body of a right answer.

    Args:
        response: What the service answered, read to its end.
        key: The key that was sent; it is cut out of the body.

    Raises:
        StatusError: The answer has an error status, or redirects.
        InvalidAnswer: It has another status of success than 200.

    Example:
        >>> content_of(httpx.Response(200, content=b"{}"), None)
        b'{}'
    """
    if response.status_code == httpx.codes.OK:
        return _without(key, response.content)
    if response.is_success:
        raise InvalidAnswer(f"The service answered {response.status_code} where 200 was expected.")
    raise _refusal(response, key)


def gave_up(end: GaveUp, key: SecretStr | None, seconds: float, *, hosted: bool) -> RerankError:
    """Tell what the last try brought, and how long the next one would have had to wait.

    Args:
        end: Why there is no next try.
        key: The key that was sent.
        seconds: How long a try may take.
        hosted: Whether NVIDIA's API catalog was asked.

    Returns:
        The error to raise.
    """
    if isinstance(end.outcome, httpx.Response):
        error: RerankError = _refusal(end.outcome, key)
    else:
        error = transport_error(end.outcome, seconds, hosted=hosted)
    error.hint = f"Try again in {end.wait:.0f} seconds: {end}, longer than this call may take. {error.hint}"
    return error


def transport_error(error: Exception, seconds: float, *, hosted: bool) -> RerankError:
    """Tell why no answer came.

    Args:
        error: What httpx raised.
        seconds: How long a try may take.
        hosted: Whether NVIDIA's API catalog was asked.

    Returns:
        The error to raise.

    Example:
        >>> transport_error(httpx.ReadTimeout(""), 2, hosted=False).args[0]
        'The reranking service did not answer within 2 seconds'
    """
    if isinstance(error, httpx.DecodingError):
        return InvalidAnswer(f"The service's answer is not what its Content-Encoding says: {error}")
    if isinstance(error, httpx.TimeoutException):
        return RerankTimeout(f"The reranking service did not answer within {seconds:g} seconds")
    message = f"The reranking service could not be reached: {str(error) or type(error).__name__}"
    return ServiceUnreachable(message, hint=UNREACHABLE_HOSTED if hosted else None)


def _refusal(response: httpx.Response, key: SecretStr | None) -> StatusError:
    request_id = response.headers.get("nvcf-reqid") or response.headers.get("x-request-id")
    return status_error(response.status_code, _without(key, response.content), request_id=request_id)


def _without(key: SecretStr | None, content: bytes) -> bytes:
    """Cut our key out of a body, before any part of it is quoted: a service may repeat what it was sent."""
    return content.replace(key.get_secret_value().encode(), b"...") if key else content
