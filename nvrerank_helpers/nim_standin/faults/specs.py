"""What goes wrong on purpose: each fault as data, and as the compact text that says it in a line.

Faults touch the routes that work for a client (`is_inference`), never health, metrics, models or `/stand-in`.
"""

import random
import re
import shlex
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from nvrerank_helpers.nim_standin.asgi.whole import Whole

_RANKING_PATH = re.compile(r"/v1/ranking|/v1/retrieval/(.+/)?reranking")
_INFERENCE_PATHS = {"/v1/chat/completions", "/v1/embeddings"}
MOST_SECONDS = 600
"""The longest that a request is put off."""

LARGEST_SEED = 2**32 - 1
_RETRY_AFTER = "Input should be 1 to 64 printable ASCII characters without a blank at either end"


Share = Annotated[float, Field(ge=0, le=1)]
Times = Annotated[int, Field(ge=1, le=1_000_000), Whole]
Seconds = Annotated[float, Field(ge=0, le=MOST_SECONDS)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED), Whole]
Distribution = Literal["fixed", "uniform", "exponential", "lognormal", "queue"]
RankingSpoil = Literal["unsorted", "missing", "duplicate", "out_of_range", "negative", "nan", "strings", "no_rankings"]
Spoil = Literal[RankingSpoil, "html", "broken"]


class FaultError(ValueError):
    """A fault that cannot be understood, or faults that do not fit together; the message says what is allowed."""


class _AnyFault(BaseModel):
    """What all faults have: the share of the requests they touch, and after how many of them they stop."""

    # Strict, so that the JSON form takes what its schema says and nothing that could be turned into it.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    share: Share = 1.0
    times: Times | None = None

    def __str__(self) -> str:
        fields = type(self).model_fields
        in_order = sorted(fields, key=lambda name: name in _AnyFault.model_fields)  # its own first
        values = {name: getattr(self, name) for name in in_order}
        shown = {name: value for name, value in values.items() if value != fields[name].default}
        return " ".join(f"{_word(name)}={_text(value)}" for name, value in shown.items())


class StatusFault(_AnyFault):
    """Any status instead of an answer; `retry_after` is seconds, an HTTP date, or whatever a client should stumble on.

    Example:
        >>> str(parse_fault("status=503 retry-after=2 share=0.05"))
        'status=503 retry-after=2 share=0.05'
    """

    status: Annotated[int, Field(ge=200, le=599), Whole]
    retry_after: Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,62}[!-~])?$")] | None = None


class DelayFault(_AnyFault):
    """A wait before the request is looked at; `seconds` is the mean of each distribution.

    With `queue` a plan has requests wait for their turn, one after the other and each that long: so a service on one
    GPU answers, however many ask it at once.
    """

    delay: Distribution
    seconds: Seconds

    def length(self, rng: random.Random) -> float:
        """Draw a wait in seconds.

        `uniform` spreads from 0 to twice the mean. `lognormal` has a sigma of 1: the long tail of a busy service, half
        of all waits below 0.6 of the mean and one in twenty above 3.1 times the mean.

        Example:
            >>> parse_fault("delay=fixed seconds=0.5").length(random.Random(0))
            0.5
        """
        match self.delay:
            case "fixed" | "queue":
                return self.seconds
            case "uniform":
                return self.seconds * rng.uniform(0, 2)
            case "exponential":
                return self.seconds * rng.expovariate(1)
            case "lognormal":
                return self.seconds * rng.lognormvariate(-1 / 2, 1)  # mu = -sigma²/2 gives a mean of 1


class ResetFault(_AnyFault):
    """A connection reset: `before` the answer, or in the `middle` of its body."""

    reset: Literal["before", "middle"]


class AnswerFault(_AnyFault):
    """An answer with status 200 that is spoilt; `spoiling.spoilt` says how. An answer with another status stays."""

    answer: Spoil


class LaterFault(_AnyFault):
    """202 now, and the answer at `GET /v2/nvcf/pexec/status/{id}` once that many seconds have passed.

    So answers NVIDIA's API catalog under load; a NIM of one's own never does.
    """

    later: Seconds


Outcome = StatusFault | ResetFault | AnswerFault | LaterFault
KINDS: dict[str, type[Outcome | DelayFault]] = {
    "status": StatusFault,
    "delay": DelayFault,
    "reset": ResetFault,
    "answer": AnswerFault,
    "later": LaterFault,
}
_FORMS = (
    f"status=503, delay=exponential seconds=0.05 ({', '.join(get_args(Distribution))}), reset=before, reset=middle, "
    f"answer=unsorted ({', '.join(get_args(Spoil))}) or later=2"
)


def _kind(fault: Any) -> str | None:
    """Tell which of the kinds a fault is: the one whose word it has."""
    words = fault if isinstance(fault, dict) else getattr(type(fault), "model_fields", ())
    return next((kind for kind in KINDS if kind in words), None)


Fault = Annotated[
    Annotated[StatusFault, Tag("status")]
    | Annotated[DelayFault, Tag("delay")]
    | Annotated[ResetFault, Tag("reset")]
    | Annotated[AnswerFault, Tag("answer")]
    | Annotated[LaterFault, Tag("later")],
    Discriminator(_kind, custom_error_type="no_fault", custom_error_message="A fault has one of: " + ", ".join(KINDS)),
]


def is_ranking(path: str) -> bool:
    """Tell whether a path ranks passages: `/v1/ranking`, or the API catalog's path of a model.

    Example:
        >>> is_ranking("/v1/retrieval/nvidia/some-model/reranking"), is_ranking("/v1/embeddings")
        (True, False)
    """
    return _RANKING_PATH.fullmatch(path) is not None


def is_inference(path: str) -> bool:
    """Tell whether a path works for a client: ranking, chat or embeddings.

    Example:
        >>> is_inference("/v1/embeddings"), is_inference("/v1/health/ready")
        (True, False)
    """
    return path in _INFERENCE_PATHS or is_ranking(path)


def parse_fault(text: str) -> Outcome | DelayFault:
    """Read the compact text of a fault, as it stands on the command line and in the header `X-Stand-In-Fault`.

    Args:
        text: Words like `status=503 share=0.05 retry-after=2`; quotes hold a value with blanks together.

    Returns:
        The fault.

    Raises:
        FaultError: Which word is wrong, and what is allowed.

    Example:
        >>> parse_fault("answer=unsorted share=0.1").share
        0.1
    """
    values = _values(text)
    kinds = [kind for kind in KINDS if kind in values]
    if len(kinds) != 1:
        which = f"both {kinds[0]}= and {kinds[1]}=" if kinds else "none of the words that begin a fault"
        raise FaultError(f"{text!r} has {which}: give one of {_FORMS}.")
    form = KINDS[kinds[0]]
    if unknown := sorted(values.keys() - form.model_fields.keys()):
        known = ", ".join(f"{_word(name)}=" for name in form.model_fields)
        raise FaultError(f"{text!r}: a fault with {kinds[0]}= has no {_word(unknown[0])}=; it takes {known}.")
    try:
        return form.model_validate(values, strict=False)
    except ValidationError as error:
        raise FaultError(f"{text!r}: {_problem(error, values)}") from None


def _values(text: str) -> dict[str, str]:
    try:
        words = [word.partition("=") for word in shlex.split(text)]
    except ValueError as error:
        raise FaultError(f"{text!r} cannot be split into words: {error}.") from None
    values: dict[str, str] = {}
    for word, sign, value in words:
        if not sign:
            raise FaultError(f"{text!r}: {word!r} is no name=value. A fault has one of {_FORMS}.")
        name = word.replace("-", "_")
        if name in values:
            raise FaultError(f"{text!r} has {word}= twice.")
        values[name] = value
    return values


def _problem(error: ValidationError, values: dict[str, str]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])
    if first["type"] == "missing":
        return f"{_word(name)}= is missing."
    allowed = _RETRY_AFTER if first["type"] == "string_pattern_mismatch" else first["msg"]
    return f"{_word(name)}={values[name]} is not allowed: {allowed}."


def _word(name: str) -> str:
    return name.replace("_", "-")


def _text(value: str | float) -> str:
    return shlex.quote(value) if isinstance(value, str) else str(value).removesuffix(".0")
