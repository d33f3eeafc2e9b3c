"""The plan of faults: which request meets which of them, drawn by a seed.

A request meets at most one fault, the first into whose part of a single draw it falls: `status=503 share=0.05` with
`reset=middle share=0.01` fails 5 % of all requests and breaks 1 %, never both. Delays are the exception: each draws
for itself, they add up, and what is delayed may fail as well. A delay of the kind `queue` begins where that of the
request before it ends. A fault with `times` steps aside after that many requests, so that `status=503 times=1` means
"the second call works".
"""

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from pydantic import BaseModel

from nvrerank_helpers.nim_standin.faults.specs import (
    LARGEST_SEED,
    AnswerFault,
    DelayFault,
    Fault,
    FaultError,
    Outcome,
    RankingSpoil,
    Seed,
    is_ranking,
)


@dataclass(frozen=True)
class Draw:
    """What one request meets.

    Attributes:
        delay: Seconds to wait first.
        fault: What happens to it then; None lets it pass.
        rng: Decides what the fault itself leaves open, such as which ranking is spoilt.
    """

    delay: float
    fault: Outcome | None
    rng: random.Random


class PlanState(BaseModel):
    """A plan, and how far it has got."""

    faults: list[Fault]
    seed: Seed
    requests: int
    """Requests that the plan has seen."""
    injected: list[int]
    """How many of them each of the faults touched, in the order of the faults."""


class Plan:
    """Faults to inject, switchable while the service runs.

    The same seed and the same requests in the same order give the same faults; with requests at the same time, the
    order of their arrival counts. To be used from the event loop alone.

    Args:
        faults: The faults, none to begin with.
        seed: What the draws start from.
        clock: Tells the seconds, for delays of the kind `queue`.

    Raises:
        FaultError: The shares add up to more than 1, or the seed is none.

    Example:
        >>> from nvrerank_helpers.nim_standin.faults.specs import parse_fault
        >>> plan = Plan([parse_fault("status=503 times=1")])
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
        """Replace the faults and begin to draw anew.

        Raises:
            FaultError: The shares add up to more than 1, or the seed is none; then everything stays as it was.
        """
        if not 0 <= seed <= LARGEST_SEED:
            raise FaultError(f"The seed {seed} is not allowed: it is a whole number from 0 to {LARGEST_SEED}.")
        faults = tuple(faults)
        shares = [fault.share for fault in faults if fault.times is None and not isinstance(fault, DelayFault)]
        if (total := round(math.fsum(shares), 9)) > 1:
            raise FaultError(
                f"The shares of the faults add up to {total:g}, and a request meets one of them at most: they may add "
                "up to 1. Delays do not count, nor do faults with times, which step aside."
            )
        self._faults, self._seed = faults, seed
        self._requests, self._tally = 0, _Tally(len(faults))

    def draw(self, path: str, instead: Sequence[Outcome | DelayFault] = ()) -> Draw:
        """Decide what the next request meets.

        Args:
            path: Where it goes; a fault of rankings passes over requests for anything else.
            instead: Faults of this request alone, in place of the plan's.

        Returns:
            The delay and the fault.
        """
        self._requests += 1
        rng = random.Random(f"{self._seed}/{self._requests}")  # noqa: S311 - repeatable on purpose
        if instead:
            return _drawn(instead, _Tally(len(instead)), path, rng, self._clock())
        return _drawn(self._faults, self._tally, path, rng, self._clock())

    @property
    def state(self) -> PlanState:
        """The faults in force, and what they have done so far."""
        return PlanState(
            faults=list(self._faults), seed=self._seed, requests=self._requests, injected=list(self._tally.injected)
        )


class _Tally:
    """What the faults have done: how many requests each has touched, and when its queue will be empty."""

    def __init__(self, faults: int) -> None:
        self.injected = [0] * faults
        self._empty_at = [0.0] * faults

    def wait(self, position: int, fault: DelayFault, rng: random.Random, now: float) -> float:
        """Return the seconds that a request is put off; in a queue, until those before it and itself are done."""
        length = fault.length(rng)
        if fault.delay != "queue":
            return length
        self._empty_at[position] = max(self._empty_at[position], now) + length
        return self._empty_at[position] - now


def _drawn(faults: Sequence[Outcome | DelayFault], tally: _Tally, path: str, rng: random.Random, now: float) -> Draw:
    """Draw once for all faults but the delays, and count what happens in the tally."""
    mark, reached, delay, outcome = rng.random(), 0.0, 0.0, None
    for position, fault in enumerate(faults):
        if tally.injected[position] == fault.times or not _fits(fault, path):
            continue
        if isinstance(fault, DelayFault):
            if rng.random() < fault.share:
                delay += tally.wait(position, fault, rng, now)
                tally.injected[position] += 1
            continue
        if reached <= mark < reached + fault.share:
            outcome = fault
            tally.injected[position] += 1
        reached += fault.share
    return Draw(delay, outcome, rng)


def _fits(fault: Outcome | DelayFault, path: str) -> bool:
    return is_ranking(path) or not (isinstance(fault, AnswerFault) and fault.answer in get_args(RankingSpoil))
