"""The check cells of the exercises: what the reader wrote in, "not yet", "right" or "not quite" out."""

import html
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["not yet", "right", "wrong"]
LEADS: dict[State, str] = {"not yet": "Not yet", "right": "Right", "wrong": "Not quite"}
UNTOUCHED = "replace the ... in the cell above, run it, then run this cell again."


@dataclass(frozen=True, repr=False)
class Verdict:
    """What a check says; a notebook shows it as the value of the check cell.

    Attributes:
        state: "not yet", "right" or "wrong".
        message: The reason, one or two sentences.
    """

    state: State
    message: str

    def __str__(self) -> str:
        """Return the verdict as one line of text."""
        return f"{LEADS[self.state]}: {self.message}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the verdict for Jupyter, its first words in bold."""
        return f"<p><strong>{LEADS[self.state]}:</strong> {html.escape(self.message)}</p>"


def check(answer: Any, expected: Any, *, right: str, wrong: str | Callable[[Any], str]) -> Verdict:
    """Compare a reader's answer with what is expected, and never raise because of the answer.

    Args:
        answer: What the reader wrote. `...`, None, or a list, tuple or dictionary that holds `...`, means "not yet".
        expected: The right value (a float agrees to one part in a thousand), or a function that takes the
            answer and returns whether it is right.
        right: Why the answer is right.
        wrong: What to think about next, or a function that takes the answer and returns that.

    Returns:
        The verdict.

    Example:
        >>> check(7, 7, right="both lists hold one passage twice.", wrong="count each passage once.")
        Right: both lists hold one passage twice.
    """
    if _is_untouched(answer):
        return Verdict("not yet", UNTOUCHED)
    try:
        if _agree(answer, expected):
            return Verdict("right", right)
        return Verdict("wrong", wrong(answer) if callable(wrong) else wrong)
    except Exception as error:  # noqa: BLE001 - whatever a learner's own function raises belongs in the verdict
        return Verdict("wrong", f"this is not the kind of value that is asked for ({error}).")


def _is_untouched(answer: Any) -> bool:
    """Whether an answer is, or holds, what the starter left open."""
    inside = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, list | tuple) else ()
    return answer is None or answer is ... or any(value is ... for value in inside)


def _agree(answer: Any, expected: Any) -> bool:
    """Whether an answer is the expected value, or passes the expected test."""
    if callable(expected):
        return bool(expected(answer))
    if isinstance(expected, float):
        return math.isclose(answer, expected, rel_tol=1e-3)
    return bool(answer == expected)
