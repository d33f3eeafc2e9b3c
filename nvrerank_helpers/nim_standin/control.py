"""Controls a running stand-in from a notebook or a test: faults, what it imitates, and what clients sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from nvrerank_helpers.connector import ServiceUnreachable, parse_address, read_server_message
from nvrerank_helpers.nim_standin.faults.plan import FaultPlan, FaultPlanState
from nvrerank_helpers.nim_standin.faults.specs import parse_fault
from nvrerank_helpers.nim_standin.process import StandInError
from nvrerank_helpers.nim_standin.server.recorder import RecordedRequest

_RECORDS = TypeAdapter(list[RecordedRequest])
_SECONDS = 10.0
_REFUSED = {409, 422}

Content = TypeVar("Content")


class StandInControl:
    """The controls of a running stand-in.

    Every method raises `StandInError` if the address belongs to another service, and `ServiceUnreachable` if nothing
    answers there.

    Args:
        address: Where the stand-in listens, such as `StandIn.base_url`, with or without `/v1`.

    Raises:
        ValueError: The address is malformed.

    Example:
        >>> StandInControl("127.0.0.1:1976/v1")
        StandInControl('http://127.0.0.1:1976')
    """

    def __init__(self, address: str) -> None:
        parts = parse_address(address)
        self._address = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"

    def __repr__(self) -> str:
        return f"StandInControl({self._address!r})"

    @contextmanager
    def faults(self, *texts: str, seed: int = 0) -> Iterator[None]:
        """Inject faults during a `with` block, and none after it.

        Args:
            texts: The text of each fault, such as `status=503 share=0.05 retry-after=2`.
            seed: The same seed and the same requests give the same faults.

        Raises:
            FaultError: A fault cannot be understood, or the shares add up to more than 1.
        """
        plan = FaultPlan(map(parse_fault, texts), seed).state
        self._ask("POST", "faults", plan.model_dump(include={"faults", "seed"}, exclude_none=True))
        try:
            yield
        finally:
            self._ask("DELETE", "faults")

    def faults_so_far(self) -> FaultPlanState:
        """Return the active faults, and how many requests each of them has touched."""
        return self._read(TypeAdapter(FaultPlanState), "faults")

    @contextmanager
    def behaviour(self, name: str) -> Iterator[None]:
        """Let the stand-in imitate another service, such as `nim-1.9` or `catalog`, during a `with` block.

        Raises:
            ValueError: The stand-in cannot imitate that.
        """
        present = self._read(TypeAdapter(dict[str, Any]), "behaviour")
        if name not in present["choices"]:
            raise ValueError(f"The stand-in has no behaviour {name!r}; it has {', '.join(present['choices'])}.")
        self._ask("PUT", "behaviour", {"name": name})
        try:
            yield
        finally:
            self._ask("PUT", "behaviour", {"name": present["name"]})

    def requests(self) -> list[RecordedRequest]:
        """Return the last 100 requests for ranking, chat and embeddings, the oldest first, without their keys."""
        return self._read(_RECORDS, "requests")

    def clear(self) -> None:
        """Forget the requests so far."""
        self._ask("DELETE", "requests")

    def _read(self, kind: TypeAdapter[Content], name: str) -> Content:
        try:
            return kind.validate_json(self._ask("GET", name))
        except ValidationError as error:
            raise self._other_service() from error

    def _ask(self, method: str, name: str, content: Any = None) -> bytes:
        url = f"{self._address}/stand-in/{name}"
        try:  # without the environment's proxy: the stand-in is on this machine or near it
            answer = httpx.request(method, url, json=content, timeout=_SECONDS, trust_env=False)
        except httpx.HTTPError as error:
            raise ServiceUnreachable(f"The stand-in could not be reached: {error}", url=url) from error
        if answer.status_code in _REFUSED:
            raise ValueError(f"The stand-in refused: {read_server_message(answer.content)}")
        if not answer.is_success:
            raise self._other_service()
        return answer.content

    def _other_service(self) -> StandInError:
        return StandInError(
            "This service isn't a stand-in: only a stand-in can be controlled and inject faults.",
            hint="Give the address of a running one: python -m nvrerank_helpers.nim_standin --port 1976 starts it.",
            url=self._address,
        )
