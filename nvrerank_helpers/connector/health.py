"""Is the service there, ready, and does it rank? Checked step by step before real work depends on it."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from time import monotonic, perf_counter, sleep

from .client import RankingClient
from .endpoints import resolve_endpoint
from .errors import InvalidAnswer, RerankError, RerankTimeout, ServiceUnreachable
from .protocol import Passage

LOOK = 5.0  # seconds that one look at a service which is still starting may take
MARKS = {True: "ok", False: "FAIL", None: "-"}
STARTING = "Look at the service's own log (docker logs) for what it is busy with, or wait longer with `timeout`."
QUERY = "Which animal says meow?"
PASSAGES: list[Passage] = [{"text": "The stock market fell by two per cent."}, {"text": "The cat says meow."}]


@dataclass(frozen=True)
class Step:
    """One thing that was checked: `passed` is None where it does not apply or was not reached."""

    name: str
    passed: bool | None
    found: str
    seconds: float = 0.0

    @property
    def text(self) -> str:
        """What was found, and how long it took."""
        return self.found + (f" ({self.seconds * 1000:.0f} ms)" if self.seconds else "")


@dataclass(frozen=True)
class HealthReport:
    """What the check of a service found.

    Example:
        >>> print(HealthReport([Step("ready", True, "yes", 0.002)]))
        ok    ready    yes (2 ms)
    """

    steps: list[Step]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(step.passed is not False for step in self.steps)

    def __str__(self) -> str:
        width = max(len(step.name) for step in self.steps)
        return "\n".join(f"{MARKS[step.passed]:<5} {step.name:<{width}}    {step.text}" for step in self.steps)

    def _repr_html_(self) -> str:
        rows = (f"<td>{MARKS[step.passed]}</td><th>{step.name}</th><td>{escape(step.text)}</td>" for step in self.steps)
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def check_service(client: RankingClient) -> HealthReport:
    """Check a service: ready, model served, and one tiny ranking in the right order (which needs the key accepted).

    After a step that failed the others are not tried.
    """
    steps = [Step("address", True, client.endpoint.ranking_url)]
    for name, look in {"ready": _check_ready, "model": _check_model, "ranking": _check_ranking}.items():
        is_broken = any(step.passed is False for step in steps)
        steps.append(Step(name, None, "not tried") if is_broken else _time(name, look, client))
    return HealthReport(steps)


def wait_until_ready(address: str, timeout: float = 900, pause: float = 2) -> float:
    """Wait until a NIM is ready to rank, also for one that does not even listen yet.

    Args:
        address: Of a NIM, such as `http://localhost:1976/v1`.
        timeout: Seconds to wait. A NIM loads for minutes, and longer the first time, when it downloads its model.
        pause: Seconds between two looks.

    Returns:
        How many seconds it took.

    Raises:
        ValueError: The address cannot be used, or is one of the API catalog, which has no such route.
        RerankTimeout: The service was not ready in time; the message says what the last look found.
        InvalidAnswer: Something answers there that has no such route either.
    """
    started, target = monotonic(), resolve_endpoint(address, None)
    if target.service_url is None:
        raise ValueError(f"{address} does not say whether it is ready: give the address of a NIM, which ends in /v1.")
    url = f"{target.service_url}/health/ready"
    with RankingClient(target, "any", timeout=LOOK, deadline=LOOK, max_retries=0) as client:
        while True:
            try:
                is_ready, found = client.is_ready(), "it answers, and is not ready yet"
            except (ServiceUnreachable, RerankTimeout) as error:
                is_ready, found = False, str(error.args[0])
            if is_ready:
                return monotonic() - started
            if is_ready is None:
                raise InvalidAnswer("The service does not say whether it is ready (404)", url=url)
            if monotonic() - started + pause > timeout:
                raise RerankTimeout(f"Not ready within {timeout:g} seconds: {found}", hint=STARTING, url=url)
            sleep(pause)


def _time(name: str, look: Callable[[RankingClient], tuple[bool | None, str]], client: RankingClient) -> Step:
    started = perf_counter()
    try:
        passed, found = look(client)
    except RerankError as error:
        passed, found = False, str(error)
    return Step(name, passed, found, perf_counter() - started)


def _check_ready(client: RankingClient) -> tuple[bool | None, str]:
    is_ready = client.is_ready()
    found = {True: "the service is ready", False: "not ready yet: wait and try again", None: "no route says so"}
    return is_ready, found[is_ready]


def _check_model(client: RankingClient) -> tuple[bool | None, str]:
    if not client.endpoint.listing_urls:
        return None, f"{client.model}; this address lists no models"
    served = client.model_ids()
    if client.model in served:
        return True, f"{client.model} is served"
    return False, f"{client.model} is not among {', '.join(served)}"


def _check_ranking(client: RankingClient) -> tuple[bool | None, str]:
    ranked = client.rank(QUERY, PASSAGES)
    wrong, right = ranked.logits
    if right <= wrong:
        raise InvalidAnswer(f"Two passages came in the wrong order: {right} for the right one, {wrong} for the other.")
    return True, f"two passages in the right order, {ranked.tokens} tokens"
