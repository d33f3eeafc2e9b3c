"""Is the service there, ready, and does it rank? Checked step by step before real work depends on it."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from time import monotonic, perf_counter, sleep

from .client import RankingClient
from .errors import InvalidAnswer, RerankError, RerankTimeout, ServiceUnreachable
from .models import endpoint
from .protocol import Passage

LOOK = 5.0  # seconds that one look at a service which is still starting may take
MARKS = {True: "ok", False: "FAIL", None: "-"}
STARTING = "Look at the service's own log (docker logs) for what it is busy with, or wait longer with `timeout`."
QUERY = "Which animal says meow?"
PASSAGES: list[Passage] = [{"text": "The stock market fell by two per cent."}, {"text": "The cat says meow."}]


@dataclass(frozen=True)
class Step:
    """One thing that was checked.

    Attributes:
        name: What was checked.
        passed: Whether it is as it should be; None where it does not apply or was not reached.
        told: What was found, or what to do.
        seconds: How long it took.
    """

    name: str
    passed: bool | None
    told: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """What the check of a service found.

    Example:
        >>> print(Report([Step("ready", True, "yes", 0.002)]))
        ok    ready    yes (2 ms)
    """

    steps: list[Step]

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(step.passed is not False for step in self.steps)

    def __str__(self) -> str:
        width = max(len(step.name) for step in self.steps)
        return "\n".join(f"{MARKS[step.passed]:<5} {step.name:<{width}}    {_told(step)}" for step in self.steps)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{MARKS[step.passed]}</td><th>{step.name}</th><td>{escape(_told(step))}</td></tr>"
            for step in self.steps
        )
        return f"<table>{rows}</table>"


def check(client: RankingClient) -> Report:
    """Check a service: ready, model served, and one tiny ranking in the right order (which needs the key accepted).

    Args:
        client: The client that will be used.

    Returns:
        The report. After a step that failed the others are not tried.

    Example:
        >>> print(check(client))  # doctest: +SKIP
    """
    steps: list[Step] = []
    for name, look in {"ready": _ready, "model": _model, "ranking": _ranking}.items():
        if any(step.passed is False for step in steps):
            steps.append(Step(name, None, "not tried"))
        else:
            steps.append(_timed(name, look, client))
    return Report([Step("address", True, client.endpoint.ranking_url), *steps])


def wait_until_ready(address: str, timeout: float = 900, pause: float = 2) -> float:
    """Wait until a service is ready to rank, also for one that does not even listen yet.

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

    Example:
        >>> wait_until_ready("http://localhost:1976/v1")  # doctest: +SKIP
        94.2
    """
    started, target = monotonic(), endpoint(address, None)
    if target.service_url is None:
        raise ValueError(f"{address} does not tell whether it is ready: give the address of a NIM, which ends in /v1.")
    url = f"{target.service_url}/health/ready"
    with RankingClient(target, "any", timeout=LOOK) as client:
        while True:
            ready, found = _seen(client)
            if ready:
                return monotonic() - started
            if ready is None:
                raise InvalidAnswer("The service does not tell whether it is ready (404)", url=url)
            if monotonic() - started + pause > timeout:
                raise RerankTimeout(f"Not ready within {timeout:g} seconds: {found}", hint=STARTING, url=url)
            sleep(pause)


def _seen(client: RankingClient) -> tuple[bool | None, str]:
    try:
        return client.is_ready(), "it answers, and is not ready yet"
    except (ServiceUnreachable, RerankTimeout) as error:
        return False, str(error.args[0])


def _timed(name: str, look: Callable[[RankingClient], tuple[bool | None, str]], client: RankingClient) -> Step:
    started = perf_counter()
    try:
        passed, told = look(client)
    except RerankError as error:
        passed, told = False, str(error)
    return Step(name, passed, told, perf_counter() - started)


def _ready(client: RankingClient) -> tuple[bool | None, str]:
    ready = client.is_ready()
    told = {True: "the service is ready", False: "not ready yet: wait and try again", None: "no route tells"}
    return ready, told[ready]


def _model(client: RankingClient) -> tuple[bool | None, str]:
    if client.endpoint.service_url is None:
        return None, f"{client.model}; this address lists no models"
    served = client.model_ids()
    told = f"{client.model} is served"
    return (
        client.model in served,
        told if client.model in served else f"{client.model} is not among {', '.join(served)}",
    )


def _ranking(client: RankingClient) -> tuple[bool | None, str]:
    ranked = client.rank(QUERY, PASSAGES)
    wrong, right = ranked.logits
    if right <= wrong:
        raise InvalidAnswer(f"Two passages came in the wrong order: {right} for the right one, {wrong} for the other.")
    return True, f"two passages in the right order, {ranked.tokens} tokens"


def _told(step: Step) -> str:
    return step.told + (f" ({step.seconds * 1000:.0f} ms)" if step.seconds else "")
