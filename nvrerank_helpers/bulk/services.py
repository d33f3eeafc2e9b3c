"""The services of a bulk job: which model they serve, a circuit breaker for each, and a load balancer over all."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

from nvrerank_helpers.bulk.rows import BadRun, JobStopped, Outcomes
from nvrerank_helpers.connector import (
    Forbidden,
    ModelRetired,
    NotFound,
    Overloaded,
    Passage,
    PassageTooLong,
    PaymentRequired,
    RankingClient,
    RankResult,
    RateLimited,
    RequestRefused,
    RerankError,
    TooManyPassages,
    Truncate,
    Unauthorized,
    check_status,
    resolve_endpoint,
    select_key,
)

FATAL = (Unauthorized, PaymentRequired, Forbidden, NotFound, ModelRetired)  # every other query would fail alike
REFUSED = (PassageTooLong, TooManyPassages, RequestRefused)  # something is wrong with the passages that were sent
BUSY = (RateLimited, Overloaded)  # never the query's fault
MAX_FAILURES = 5  # of one query, while the services answer others
FIRST_PAUSE, LONGEST_PAUSE, POLL_INTERVAL = 0.25, 30.0, 0.05  # seconds
LISTING_TIMEOUT = 10.0  # seconds to wait for a list of models

HOW_TO_RESUME = "Finished blocks are kept: when the service works again, the same command resumes the job."

Ask = Callable[[str, Sequence[Passage]], Awaitable[RankResult]]


def choose_model(model: str | None, addresses: Sequence[str | None]) -> str:
    """Choose the model, and check that every service which lists its models has it.

    A service that doesn't answer is ignored: it may come back, and there may be others.

    Args:
        model: None takes the catalog's current model, or the first that the services list.
        addresses: None among them is the API catalog.

    Raises:
        BadRun: A service has only other models.
        RerankError: The catalog has retired the model; or no model was named, and no service lists one.
    """
    failures: list[RerankError] = []
    for address in addresses:
        target = resolve_endpoint(address, model)
        wanted = target.model
        if target.in_catalog:
            check_status(wanted)
        if not target.listing_urls:
            model = wanted
            continue
        try:
            key = select_key(target, None)
            with RankingClient(target, wanted or "any", api_key=key, timeout=LISTING_TIMEOUT) as client:
                served = client.model_ids()
        except RerankError as error:
            failures.append(error)
            continue
        model = wanted or served[0]
        if model not in served:
            raise BadRun(f"{address} serves {', '.join(served)}, and not {model}: name one that all services have.")
    if not model:
        raise failures[0]
    return model


class CircuitBreaker:
    """One service: how many requests it has in flight, and when it may be asked again after a failure.

    A failure pauses the service, twice as long each time; after the pause, a single request tries it first.
    """

    def __init__(self, client: RankingClient) -> None:
        self.client = client
        self.in_flight = 0
        self._failures = 0
        self._paused_until = 0.0

    @property
    def is_available(self) -> bool:
        """Whether the service may be asked now."""
        return time.monotonic() >= self._paused_until and not (self._failures and self.in_flight)

    @contextmanager
    def count_request(self) -> Iterator[None]:
        """Count a request in flight."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def record_failure(self) -> None:
        """Pause the service; failures during a pause belong to the same outage and count once."""
        now = time.monotonic()
        if now >= self._paused_until:
            self._paused_until = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._failures)
            self._failures += 1

    def record_success(self) -> None:
        """Reset the failures."""
        self._failures, self._paused_until = 0, 0.0


class LoadBalancer:
    """Sends each query to the least busy of several services, and to another one when that fails.

    Args:
        clients: One client per service; all services have the same model.
        truncate: `END` cuts passages that are too long, `NONE` refuses them, None leaves it to the service.
        patience: Seconds without any answer until the job stops.
    """

    def __init__(self, clients: Sequence[RankingClient], truncate: Truncate | None, patience: float) -> None:
        self._services = [CircuitBreaker(client) for client in clients]
        self._truncate = truncate
        self._patience = patience
        self._last_answer = 0.0

    async def arank(self, query: str, passages: Sequence[Passage]) -> RankResult:
        """Score every passage on one of the services.

        Raises:
            RerankError: A service refused these passages, or they failed often while others were answered.
            JobStopped: No service answers any more, or one refuses everything.
        """
        started = time.monotonic()
        failed: list[CircuitBreaker] = []
        while True:
            service = await self._wait_for_service(failed)
            try:
                return await self._ask(service, query, passages)
            except FATAL as error:
                raise JobStopped(f"{error}\n{HOW_TO_RESUME}") from error
            except REFUSED:
                raise
            except RerankError as error:
                service.record_failure()
                failed += [] if isinstance(error, BUSY) else [service]
                if len(failed) >= MAX_FAILURES and self._last_answer > started:
                    raise
                self._check_patience(started, error)

    async def _wait_for_service(self, failed: Sequence[CircuitBreaker]) -> CircuitBreaker:
        """Wait until a service is available, and choose first by failures at this query, then by requests in flight."""
        while not (available := [service for service in self._services if service.is_available]):  # noqa: ASYNC110
            await asyncio.sleep(POLL_INTERVAL)
        return min(available, key=lambda service: (failed.count(service), service.in_flight))

    async def _ask(self, service: CircuitBreaker, query: str, passages: Sequence[Passage]) -> RankResult:
        try:
            with service.count_request():
                result = await service.client.arank(query, passages, self._truncate)
        except REFUSED:
            self._record_answer(service)
            raise
        self._record_answer(service)
        return result

    def _record_answer(self, service: CircuitBreaker) -> None:
        service.record_success()
        self._last_answer = time.monotonic()

    def _check_patience(self, started: float, error: RerankError) -> None:
        if time.monotonic() - max(started, self._last_answer) > self._patience:
            raise JobStopped(f"No service answered for {self._patience:g} seconds. {error}\n{HOW_TO_RESUME}") from error


async def score_passages(ask: Ask, query: str, texts: Sequence[str]) -> tuple[Outcomes, int, int]:
    """Score passages, and return an outcome for each, the requests sent and the tokens counted.

    A service refuses a request as a whole, even if only one passage of 500 is at fault. Then the halves are asked
    separately, so that the others keep their logits: a logit doesn't depend on what else is in the request.
    """
    try:
        result = await ask(query, [{"text": text} for text in texts])
    except REFUSED as error:
        if len(texts) <= 1:
            return [error], 1, 0
        middle = len(texts) // 2
        first = await score_passages(ask, query, texts[:middle])
        second = await score_passages(ask, query, texts[middle:])
        return first[0] + second[0], first[1] + second[1] + 1, first[2] + second[2]
    except RerankError as error:
        return [error] * len(texts), 1, 0
    return list(result.logits), result.requests, result.tokens
