"""Faults as data, and the compact text that writes one in a line.

Faults touch the routes that work for a client (`is_inference`), never health, metrics, models or `/stand-in`.
"""

import random
import re
import shlex
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError

_RANKING_PATH = re.compile(r"/v1/ranking|/v1/retrieval/(.+/)?reranking")
_INFERENCE_PATHS = {"/v1/chat/completions", "/v1/embeddings"}
MAX_SECONDS = 600
"""The longest delay of a request."""

MAX_SEED = 2**32 - 1
_RETRY_AFTER = "Input should be 1 to 64 printable ASCII characters without a blank at either end"

IntegralNumber = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""For an integer of a strict model: like JSON Schema it takes 7.0, and not "7"."""

Share = Annotated[float, Field(ge=0, le=1)]
Times = Annotated[int, Field(ge=1, le=1_000_000), IntegralNumber]
Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), IntegralNumber]
Distribution = Literal["fixed", "exponential", "queue"]
RankingCorruption = Literal[
    "unsorted", "missing", "duplicate", "out_of_range", "negative", "nan", "strings", "no_rankings"
]
Corruption = Literal[RankingCorruption, "html", "broken"]


class FaultError(ValueError):
    """A fault that cannot be understood, or faults that do not fit together; the message says what is allowed."""


class _BaseFault(BaseModel):
    """The share of the requests that a fault touches, and how many it touches at most."""

    # Strict, so that the JSON form takes what its schema says and nothing that could be converted to it.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    share: Share = 1.0
    times: Times | None = None

    def __str__(self) -> str:
        fields = type(self).model_fields
        names = sorted(fields, key=lambda name: name in _BaseFault.model_fields)  # `share` and `times` come last
        values = {name: getattr(self, name) for name in names}
        shown = {name: value for name, value in values.items() if value != fields[name].default}
        return " ".join(f"{_hyphenate(name)}={_quote(value)}" for name, value in shown.items())


class StatusFault(_BaseFault):
    """Any status instead of a response; `retry_after` is seconds, an HTTP date, or a text that is neither."""

    status: Annotated[int, Field(ge=200, le=599), IntegralNumber]
    retry_after: Annotated[str, Field(pattern=r"^[!-~]([ -~]{0,62}[!-~])?$")] | None = None


class DelayFault(_BaseFault):
    """A wait before the request is processed: `fixed`, or `exponential` with `seconds` as its mean.

    With `queue` the requests wait for their turn, and each turn takes that long: a service on one GPU answers like
    this, however many clients ask it at once.
    """

    delay: Distribution
    seconds: Seconds

    def draw_seconds(self, rng: random.Random) -> float:
        """Return the seconds of one wait or turn."""
        return self.seconds * rng.expovariate(1) if self.delay == "exponential" else self.seconds


class ResetFault(_BaseFault):
    """A connection reset: `before` the response, or in the `middle` of its body."""

    reset: Literal["before", "middle"]


class AnswerFault(_BaseFault):
    """A corrupted response with status 200 (see `corruption.corrupt`). A response with another status is unchanged."""

    answer: Corruption


class DeferredFault(_BaseFault):
    """202 now, and the response at `GET /v2/nvcf/pexec/status/{id}` after that many seconds.

    NVIDIA's API catalog answers like this under load; your own NIM never does.
    """

    later: Seconds


Outcome = StatusFault | ResetFault | AnswerFault | DeferredFault
KINDS: dict[str, type[Outcome | DelayFault]] = {
    "status": StatusFault,
    "delay": DelayFault,
    "reset": ResetFault,
    "answer": AnswerFault,
    "later": DeferredFault,
}
_FORMS = (
    f"status=503, delay=exponential seconds=0.05 ({', '.join(get_args(Distribution))}), reset=before, reset=middle, "
    f"answer=unsorted ({', '.join(get_args(Corruption))}) or later=2"
)


def _find_kind(fault: Any) -> str | None:
    words = fault if isinstance(fault, dict) else getattr(type(fault), "model_fields", ())
    return next((kind for kind in KINDS if kind in words), None)


Fault = Annotated[
    Annotated[StatusFault, Tag("status")]
    | Annotated[DelayFault, Tag("delay")]
    | Annotated[ResetFault, Tag("reset")]
    | Annotated[AnswerFault, Tag("answer")]
    | Annotated[DeferredFault, Tag("later")],
    Discriminator(
        _find_kind, custom_error_type="no_fault", custom_error_message="A fault has one of: " + ", ".join(KINDS)
    ),
]


def is_ranking(path: str) -> bool:
    """Say whether a path ranks passages: `/v1/ranking`, or the API catalog's path of a model."""
    return _RANKING_PATH.fullmatch(path) is not None


def is_inference(path: str) -> bool:
    """Say whether a path works for a client: ranking, chat or embeddings."""
    return path in _INFERENCE_PATHS or is_ranking(path)


def parse_fault(text: str) -> Outcome | DelayFault:
    """Parse the compact text of a fault; quotes keep a value with blanks together.

    A `FaultError` says which word is wrong, and what is allowed.

    Example:
        >>> fault = parse_fault("status=503 share=0.05 retry-after=2")
        >>> fault.retry_after, str(fault)
        ('2', 'status=503 retry-after=2 share=0.05')
    """
    values = _split_words(text)
    kinds = [kind for kind in KINDS if kind in values]
    if len(kinds) != 1:
        which = f"both {kinds[0]}= and {kinds[1]}=" if kinds else "none of the words that begin a fault"
        raise FaultError(f"{text!r} has {which}: give one of {_FORMS}.")
    form = KINDS[kinds[0]]
    if unknown := sorted(values.keys() - form.model_fields.keys()):
        known = ", ".join(f"{_hyphenate(name)}=" for name in form.model_fields)
        raise FaultError(f"{text!r}: a fault with {kinds[0]}= has no {_hyphenate(unknown[0])}=; it takes {known}.")
    try:
        return form.model_validate(values, strict=False)
    except ValidationError as error:
        raise FaultError(f"{text!r}: {_explain(error, values)}") from None


def _split_words(text: str) -> dict[str, str]:
    try:
        words = [word.partition("=") for word in shlex.split(text)]
    except ValueError as error:
        raise FaultError(f"{text!r} cannot be split into words: {error}.") from None
    values: dict[str, str] = {}
    for word, sign, value in words:
        if not sign:
            raise FaultError(f"{text!r}: {word!r} is not of the form name=value. A fault has one of {_FORMS}.")
        name = word.replace("-", "_")
        if name in values:
            raise FaultError(f"{text!r} has {word}= twice.")
        values[name] = value
    return values


def _explain(error: ValidationError, values: dict[str, str]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])
    if first["type"] == "missing":
        return f"{_hyphenate(name)}= is missing."
    allowed = _RETRY_AFTER if first["type"] == "string_pattern_mismatch" else first["msg"]
    return f"{_hyphenate(name)}={values[name]} is not allowed: {allowed}."


def _hyphenate(name: str) -> str:
    return name.replace("_", "-")


def _quote(value: str | float) -> str:
    return shlex.quote(value) if isinstance(value, str) else str(value).removesuffix(".0")
