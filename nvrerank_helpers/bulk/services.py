"""Several services as one: the least busy is asked, one that fails rests, and another takes over."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from nvrerank_helpers.bulk.errors import JobStopped
from nvrerank_helpers.connector import (
    Forbidden,
    ModelRetired,
    NotFound,
    Overloaded,
    Passage,
    PassageTooLong,
    PaymentRequired,
    Ranked,
    RankingClient,
    RateLimited,
    RequestRefused,
    RerankError,
    TooManyPassages,
    Truncate,
    Unauthorized,
)

FOR_ALL = (Unauthorized, PaymentRequired, Forbidden, NotFound, ModelRetired)
"""What every other query would be told too."""

REFUSED = (PassageTooLong, TooManyPassages, RequestRefused)
"""What is wrong with the passages that were sent."""

BUSY = (RateLimited, Overloaded)
"""What is never the query's fault."""

TRIES = 5
"""How often a query may fail, while others are answered, until it is given up."""

FIRST_REST, LONGEST_REST, LOOK = 0.25, 30.0, 0.05  # seconds

GO_ON = "What is finished stays: when the service is well again, the same command goes on from there."

Ask = Callable[[str, Sequence[Passage]], Awaitable[Ranked]]


class Service:
    """One service: how busy it is, and whether it rests after a failure."""

    def __init__(self, client: RankingClient) -> None:
        self.client = client
        self.in_flight = 0
        self._failures = 0
        self._rests_until = 0.0

    @property
    def open(self) -> bool:
        """Whether it may be asked; after a failure and a rest, one request tries it first."""
        return time.monotonic() >= self._rests_until and not (self._failures and self.in_flight)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Count a request in flight."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def failed(self) -> None:
        """Rest, twice as long with every failure after a rest."""
        if time.monotonic() >= self._rests_until:  # requests that were in flight together fail once
            rest = min(LONGEST_REST, FIRST_REST * 2**self._failures)
            self._failures, self._rests_until = self._failures + 1, time.monotonic() + rest

    def answered(self) -> None:
        """Be as new."""
        self._failures, self._rests_until = 0, 0.0


class Services:
    """Ask whichever service is there.

    Args:
        clients: One client for each service; all of them serve the same model.
        truncate: `END` cuts passages that are too long, `NONE` refuses them, None leaves it to the service.
        patience: Seconds without any answer until the job stops.

    Example:
        >>> client = RankingClient(endpoint("localhost:1976", None), "my-model")  # doctest: +SKIP
        >>> services = Services([client], "END", patience=120)  # doctest: +SKIP
        >>> ranked = await services.arank("which way?", [{"text": "two roads"}])  # doctest: +SKIP
    """

    def __init__(self, clients: Sequence[RankingClient], truncate: Truncate | None, patience: float) -> None:
        self._services = [Service(client) for client in clients]
        self._truncate = truncate
        self._patience = patience
        self._last_answer = 0.0

    async def arank(self, query: str, passages: Sequence[Passage]) -> Ranked:
        """Score every passage against the query, on the service that is least busy.

        Args:
            query: The query.
            passages: Its passages.

        Returns:
            One logit a passage, and what the call cost.

        Raises:
            RerankError: A service refused these passages, or they failed often while others were answered.
            JobStopped: No service answers anything any more, or one refuses everything.
        """
        began = time.monotonic()
        failed: list[Service] = []
        while True:
            service = await self._free(failed)
            try:
                ranked = await self._ask(service, query, passages)
            except FOR_ALL as error:
                raise JobStopped(f"{error}\n{GO_ON}") from error
            except REFUSED:
                raise
            except RerankError as error:
                service.failed()
                failed += [] if isinstance(error, BUSY) else [service]
                if len(failed) >= TRIES and self._last_answer > began:
                    raise
                self._check_patience(began, error)
            else:
                return ranked

    async def _ask(self, service: Service, query: str, passages: Sequence[Passage]) -> Ranked:
        try:
            with service.asked():
                ranked = await service.client.arank(query, passages, self._truncate)
        except REFUSED:
            self._note_answer(service)
            raise
        self._note_answer(service)
        return ranked

    def _note_answer(self, service: Service) -> None:
        service.answered()
        self._last_answer = time.monotonic()

    async def _free(self, failed: Sequence[Service]) -> Service:
        """Wait for a service that may be asked: one that has not failed at this rather than one that has."""
        while not (free := [service for service in self._services if service.open]):  # noqa: ASYNC110 - time opens it
            await asyncio.sleep(LOOK)
        return min(free, key=lambda service: (failed.count(service), service.in_flight))

    def _check_patience(self, began: float, error: RerankError) -> None:
        if time.monotonic() - max(began, self._last_answer) > self._patience:
            raise JobStopped(f"No service answered for {self._patience:g} seconds. {error}\n{GO_ON}") from error

    async def aclose(self) -> None:
        """Close the connections of this event loop."""
        for service in self._services:
            await service.client.aclose()


async def scored(ask: Ask, query: str, texts: Sequence[str]) -> tuple[list[float | RerankError], int, int]:
    """Score passages, and where a request is refused find out which of them it is about.

    A service refuses a request as a whole, also where one passage of 500 is at fault; halves are asked then, so that
    the others keep their logits. A passage's logit does not depend on what else is in the request.

    Args:
        ask: Scores all passages or raises, such as `Services.arank`.
        query: The query.
        texts: The passages.

    Returns:
        A logit, or why there is none, for each passage; requests sent; tokens counted.

    Example:
        >>> outcomes, requests, tokens = await scored(services.arank, "which way?", ["two roads", ""])  # doctest: +SKIP
    """
    try:
        ranked = await ask(query, [{"text": text} for text in texts])
    except REFUSED as error:
        if len(texts) > 1:
            middle = len(texts) // 2
            first, second = await scored(ask, query, texts[:middle]), await scored(ask, query, texts[middle:])
            return first[0] + second[0], first[1] + second[1] + 1, first[2] + second[2]
        return [error], 1, 0
    except RerankError as error:
        return [error] * len(texts), 1, 0
    return list(ranked.logits), ranked.requests, ranked.tokens
