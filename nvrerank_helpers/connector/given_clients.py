"""HTTP clients that the caller made, of httpx or httpx2: their proxies, certificates, hooks and authentication stay."""

import inspect
import threading
from functools import partial
from typing import Any

from pydantic import SecretStr

from .background import run_in_thread
from .replies import HEADERS, BodyReader, Reply, read_body


def check_client(client: Any, name: str, *, wants_async: bool) -> None:
    """Refuse a client of the wrong kind, or a closed one, with a `ValueError` that says what to pass instead."""
    if client is None:
        return
    wanted = "httpx.AsyncClient" if wants_async else "httpx.Client"
    if isinstance(client, type) or not (
        callable(getattr(client, "build_request", None)) and callable(getattr(client, "send", None))
    ):
        raise ValueError(f"{name} is a {type(client).__module__}.{type(client).__name__}: pass an {wanted}.")
    if inspect.iscoroutinefunction(client.send) != wants_async:
        other = "http_client" if wants_async else "async_http_client"
        raise ValueError(f"{name} wants an {wanted}: pass this {type(client).__name__} as {other}.")
    if getattr(client, "is_closed", False):
        raise ValueError(f"{name} is closed: pass an {wanted} that stays open while the reranker is in use.")


def _arguments(key: SecretStr | None) -> dict[str, Any]:
    # Without a key of ours the caller's client keeps its own way to authenticate. A redirect would be answered at a
    # host that nobody named, so it is reported instead of followed.
    auth = {"auth": partial(_authorize, key)} if key else {}
    return {"stream": True, "follow_redirects": False} | auth


def _authorize(key: SecretStr, request: Any) -> Any:
    request.headers["Authorization"] = f"Bearer {key.get_secret_value()}"
    return request


class SyncClientTransport:
    """Uses a sync client in a thread, so that a deadline holds for it too."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def close(self) -> None:
        """Close the client; a later request fails."""
        self._client.close()

    async def send(self, method: str, url: str, content: bytes | None, key: SecretStr | None, seconds: float) -> Reply:
        """Send a request; the thread of a call that was abandoned ends with the next part of the body."""
        is_over = threading.Event()

        def read() -> Reply:
            request = self._client.build_request(method, url, content=content, headers=HEADERS, timeout=seconds)
            response = self._client.send(request, **_arguments(key))
            try:
                reader = BodyReader()
                for part in response.iter_bytes():
                    if is_over.is_set():
                        raise TimeoutError
                    reader.feed(part)
                return Reply(response.status_code, response.headers, reader.finish())
            finally:
                response.close()

        try:
            return await run_in_thread(read, "the HTTP client that was passed")
        finally:
            is_over.set()


class AsyncClientTransport:
    """Uses an async client, in the event loop of the caller."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def send(self, method: str, url: str, content: bytes | None, key: SecretStr | None, seconds: float) -> Reply:
        """Send a request."""
        request = self._client.build_request(method, url, content=content, headers=HEADERS, timeout=seconds)
        response = await self._client.send(request, **_arguments(key))
        try:
            return Reply(response.status_code, response.headers, await read_body(response.aiter_bytes()))
        finally:
            await response.aclose()
