"""The fault plan: a seed decides which request meets which fault.

One random number per request decides among the faults by their shares, so a request meets at most one of them:
`status=503 share=0.05` with `reset=middle share=0.01` fails 5% of all requests and breaks 1%, never both. Delays are
the exception: each is drawn separately, they add up, and a delayed request may fail as well. A fault with `times`
stops after that many requests, so `status=503 times=1` means "the second call works".
"""

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel

from nvrerank_helpers.nim_standin.faults.specs import (
    MAX_SEED,
    AnswerFault,
    DelayFault,
    Fault,
    FaultError,
    Outcome,
    RankingCorruption,
    Seed,
    is_ranking,
)


@dataclass(frozen=True)
class FaultDraw:
    """What one request meets: seconds of delay, then a fault or None.

    `rng` decides what the fault leaves open, such as which ranking is corrupted.
    """

    delay: float
    fault: Outcome | None
    rng: random.Random


class FaultPlanState(BaseModel):
    """A plan, and how far it has got."""

    faults: list[Fault]
    seed: Seed
    requests: int
    """Requests that the plan has seen."""
    injected: list[int]
    """How many of them each of the faults touched, in the order of the faults."""


class FaultPlan:
    """Faults to inject, which can be replaced while the service runs.

    The same seed and the same requests in the same order give the same faults. Use it from the event loop only.
    `clock` gives the seconds for delays of the kind `queue`.

    Example:
        >>> from nvrerank_helpers.nim_standin.faults.specs import parse_fault
        >>> plan = FaultPlan([parse_fault("status=503 times=1")])
        >>> [str(plan.draw("/v1/ranking").fault) for _ in range(2)]
        ['status=503 times=1', 'None']
    """

    def __init__(
        self,
        faults: Iterable[Outcome | DelayFault] = (),
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.set(faults, seed)

    def set(self, faults: Iterable[Outcome | DelayFault] = (), seed: int = 0) -> None:
        """Replace the faults and start again; a `FaultError` leaves everything unchanged."""
        if not 0 <= seed <= MAX_SEED:
            raise FaultError(f"The seed {seed} is not allowed: it is a whole number from 0 to {MAX_SEED}.")
        faults = tuple(faults)
        shares = [fault.share for fault in faults if fault.times is None and not isinstance(fault, DelayFault)]
        if (total := round(math.fsum(shares), 9)) > 1:
            raise FaultError(
                f"The shares of the faults add up to {total:g}, and a request meets one of them at most: they may add "
                "up to 1. Delays do not count, nor do faults with times, which stop."
            )
        self._active, self._seed, self._requests = [_ActiveFault(fault) for fault in faults], seed, 0

    def draw(self, path: str, instead: Sequence[Outcome | DelayFault] = ()) -> FaultDraw:
        """Decide what the next request meets; `instead` has faults for this request alone."""
        self._requests += 1
        rng = random.Random(f"{self._seed}/{self._requests}")  # noqa: S311 - repeatable on purpose
        now, mark, reached, delay, outcome = self._clock(), rng.random(), 0.0, 0.0, None
        for active in [_ActiveFault(fault) for fault in instead] or self._active:
            fault = active.fault
            if active.injected == fault.times or not _applies(fault, path):
                continue
            if isinstance(fault, DelayFault):
                if rng.random() < fault.share:
                    delay += active.wait(fault.draw_seconds(rng), now)
                    active.injected += 1
                continue
            if reached <= mark < reached + fault.share:
                outcome = fault
                active.injected += 1
            reached += fault.share
        return FaultDraw(delay, outcome, rng)

    @property
    def state(self) -> FaultPlanState:
        """The active faults, and what they have done so far."""
        return FaultPlanState(
            faults=[active.fault for active in self._active],
            seed=self._seed,
            requests=self._requests,
            injected=[active.injected for active in self._active],
        )


@dataclass
class _ActiveFault:
    fault: Outcome | DelayFault
    injected: int = 0
    empty_at: float = 0.0

    def wait(self, seconds: float, now: float) -> float:
        """Return the seconds until a delay ends; in a queue, also those of the requests before."""
        if not (isinstance(self.fault, DelayFault) and self.fault.delay == "queue"):
            return seconds
        self.empty_at = max(self.empty_at, now) + seconds
        return self.empty_at - now


def _applies(fault: Outcome | DelayFault, path: str) -> bool:
    return is_ranking(path) or not (isinstance(fault, AnswerFault) and fault.answer in get_args(RankingCorruption))
