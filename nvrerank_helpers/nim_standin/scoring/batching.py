"""The queue in front of the scorer: requests as tickets, and how a round is formed from those that wait.

A round holds about `ROUND` characters of text, first come first served. What is larger than a round is done in parts
and goes to the end of the queue between them, so that a small request waits for parts of the huge ones before it, never
for all of them. A part is at least one text, as long as it may be: a text beyond the limit of tokens is cut, or counted
a slice a round, by the late-interaction scorer; a cross-encoder reads it whole.
"""

import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvrerank_helpers.nim_standin.scoring.jobs import Job, Scores

ROUND = 16_000
"""Characters of a round: the late-interaction scorer takes about a quarter of a second for them on two cores."""

TEXT_OVERHEAD = 64
"""Characters that one more text counts for: even an empty one costs time."""


@dataclass(frozen=True)
class Scored:
    """The scores of a job.

    Attributes:
        scores: One entry per passage.
        queue_seconds: From the job's arrival to the round in which it began.
        inference_seconds: From there to its last score.
    """

    scores: Scores
    queue_seconds: float
    inference_seconds: float


class Ticket(ABC):
    """A request in the queue: its texts, how many of them were taken, and who waits for the answer."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.taken = 0
        self.done: list[Any] = []
        self.answer: Future[Any] = Future()
        self.arrived = self.began = time.perf_counter()

    @property
    def gone(self) -> bool:
        """Whether nobody waits any more: cancelled, or answered with an error."""
        return self.answer.done()

    @property
    def all_taken(self) -> bool:
        """Whether no text is left for another round."""
        return self.taken >= len(self.texts)

    def take(self, room: int) -> tuple[slice, int]:
        """Take the next texts.

        Args:
            room: Characters that a round has left.

        Returns:
            Which texts, and the characters they count for: all that are left if a round could hold them, else as many
            as there is room for, and at least one.
        """
        if not self.taken:
            self.began = time.perf_counter()
        costs = list(accumulate(len(text) + TEXT_OVERHEAD for text in self.texts[self.taken :]))
        count = len(costs)
        if count and costs[-1] > ROUND:
            count = max(1, bisect_right(costs, room))
        part = slice(self.taken, self.taken + count)
        self.taken = part.stop
        return part, costs[count - 1] if count else 0

    @abstractmethod
    def result(self) -> Any:
        """Return the parts that are done as one."""


class Ranking(Ticket):
    """A job whose passages are scored."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.passages)
        self.job = job

    def part(self, texts: slice) -> Job:
        """Return the same job with some of its passages."""
        return replace(self.job, passages=self.texts[texts])

    def result(self) -> Scored:
        """Return the scores of all passages."""
        raw = np.concatenate([scores.raw for scores in self.done])
        tokens = np.concatenate([scores.tokens for scores in self.done])
        scores = replace(self.done[0], raw=raw, tokens=tokens)
        return Scored(scores, self.began - self.arrived, time.perf_counter() - self.began)


class Embedding(Ticket):
    """Texts that are turned into vectors."""

    def __init__(self, texts: Sequence[str], max_tokens: int) -> None:
        super().__init__(texts)
        self.max_tokens = max_tokens

    def result(self) -> tuple[NDArray[np.float32], int]:
        """Return the vectors and tokens of all texts."""
        return np.concatenate([vectors for vectors, _ in self.done]), sum(tokens for _, tokens in self.done)


def form_round(queue: deque[Ticket]) -> list[tuple[Ticket, slice]]:
    """Take from the front of the queue what makes a round.

    Args:
        queue: What waits; what is taken leaves it, and so does whatever nobody waits for any more.

    Returns:
        Tickets with the texts of each that belong to the round.

    Example:
        >>> queue = deque[Ticket]([Embedding(["a", "b"], 512), Ranking(Job("q", ["c"]))])
        >>> [part for _, part in form_round(queue)]
        [slice(0, 2, None), slice(0, 1, None)]
    """
    room, parts = ROUND, []
    while queue and room > 0:
        ticket = queue.popleft()
        if not ticket.gone:
            part, cost = ticket.take(room)
            room -= cost
            parts.append((ticket, part))
    return parts
