"""Control a running stand-in from a notebook or a test: faults, behaviour, and what clients sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from nvrerank_helpers.connector import ServiceUnreachable, parse_address, server_message
from nvrerank_helpers.nim_standin.faults.plan import Plan, PlanState
from nvrerank_helpers.nim_standin.faults.specs import parse_fault
from nvrerank_helpers.nim_standin.process import StandInError
from nvrerank_helpers.nim_standin.server.recorder import Recorded

_RECORDS = TypeAdapter(list[Recorded])
_SECONDS = 10.0
_REFUSED = {409, 422}

Content = TypeVar("Content")


class StandInControl:
    """The switches of a stand-in.

    Args:
        address: Where it listens, as `StandIn.base_url` or `connect().address` has it, with or without `/v1`.

    Raises:
        ValueError: That is no address.

    Example:
        >>> control = StandInControl("http://127.0.0.1:1976/v1")
        >>> with control.faults("status=503 share=0.05", "delay=exponential seconds=0.05", seed=7):
        ...     reranker.postprocess_nodes(nodes, query_str="…")  # doctest: +SKIP
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
            texts: The compact text of each fault, such as `status=503 share=0.05 retry-after=2`.
            seed: The same seed and the same requests give the same faults.

        Raises:
            FaultError: A fault cannot be understood, or the shares add up to more than 1.
            StandInError: The address belongs to another service.
            ServiceUnreachable: Nothing answers there.
        """
        plan = Plan(map(parse_fault, texts), seed).state
        self._ask("POST", "faults", plan.model_dump(include={"faults", "seed"}, exclude_none=True))
        try:
            yield
        finally:
            self._ask("DELETE", "faults")

    def faults_so_far(self) -> PlanState:
        """Return the faults in force, and how many requests each of them has touched.

        Raises:
            StandInError: The address belongs to another service.
            ServiceUnreachable: Nothing answers there.
        """
        return self._read(TypeAdapter(PlanState), "faults")

    @contextmanager
    def behaviour(self, name: str) -> Iterator[None]:
        """Let the stand-in imitate another service during a `with` block.

        Args:
            name: One of its behaviours, such as `nim-1.9` or `catalog`.

        Raises:
            ValueError: It has no such behaviour.
            StandInError: The address belongs to another service.
            ServiceUnreachable: Nothing answers there.
        """
        present = self._read(TypeAdapter(dict[str, Any]), "behaviour")
        if name not in present["choices"]:
            raise ValueError(f"The stand-in has no behaviour {name!r}; it has {', '.join(present['choices'])}.")
        self._ask("PUT", "behaviour", {"name": name})
        try:
            yield
        finally:
            self._ask("PUT", "behaviour", {"name": present["name"]})

    def requests(self) -> list[Recorded]:
        """Return the last 100 requests for ranking, chat and embeddings, the oldest first, without their keys.

        Raises:
            StandInError: The address belongs to another service.
            ServiceUnreachable: Nothing answers there.
        """
        return self._read(_RECORDS, "requests")

    def clear(self) -> None:
        """Forget the requests so far.

        Raises:
            StandInError: The address belongs to another service.
            ServiceUnreachable: Nothing answers there.
        """
        self._ask("DELETE", "requests")

    def _read(self, kind: TypeAdapter[Content], name: str) -> Content:
        try:
            return kind.validate_json(self._ask("GET", name))
        except ValidationError as error:
            raise self._no_stand_in() from error

    def _ask(self, method: str, name: str, content: Any = None) -> bytes:
        url = f"{self._address}/stand-in/{name}"
        try:  # not through a proxy of the environment: the stand-in is on this machine or near it
            answer = httpx.request(method, url, json=content, timeout=_SECONDS, trust_env=False)
        except httpx.HTTPError as error:
            raise ServiceUnreachable(f"The stand-in could not be reached: {error}", url=url) from error
        if answer.status_code in _REFUSED:
            raise ValueError(f"The stand-in refused: {server_message(answer.content)}")
        if not answer.is_success:
            raise self._no_stand_in()
        return answer.content

    def _no_stand_in(self) -> StandInError:
        return StandInError(
            "This service is no stand-in: faults can be injected into the stand-in only.",
            hint="Give the address of a running one: python -m nvrerank_helpers.nim_standin --port 1976 starts it.",
            url=self._address,
        )
