"""How versions of the service answer, as data: one row a behaviour, one cell a reason to refuse.

What is documented says so; everything else is our assumption, written here and nowhere else. Documentation: of the
NIM at https://docs.nvidia.com/nim/nemo-retriever/text-reranking/ (1.x and 2.x), of the API catalog's endpoints at
https://docs.api.nvidia.com/nim/reference/ . Observed: seen by users of the service, in public issues.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any, Literal

from nvrerank_helpers.connector import DEFAULT_MODEL

Truncate = Literal["NONE", "END"]
"""Documented. Some clients mention START; the service does not have it."""

MAX_TOKENS = 8192
"""Documented limit of a query with one passage for most models (support matrices), special tokens included."""

MAX_CHARACTERS = 14_598_366
"""Documented limit of one text (reference pages of the API catalog)."""

MAX_MODEL_NAME = 128
"""Documented limit of a model's id, in characters (the same pages)."""

MAX_BODY_BYTES = 32 * 2**20
"""Assumption: the largest body that is read. It holds one text of the documented length with two bytes a character;
512 passages of everyday length are a fiftieth of it."""

MAX_VALUES = 100_000
"""Assumption: most values of a body, counted as its commas and brackets outside of texts. A ranking request has some
four a passage. Parsing keeps the whole service waiting: up to 0.3 s for so many, 9 s for what fits into a body."""

MAX_PROBLEMS = 20
"""Assumption: most entries of `detail` in a refusal."""

MAX_NAME = 64
"""Assumption: most characters of a field's name that a refusal repeats."""

UNKNOWN_FIELD = "{field}: unknown field, expected one of {known}"
"""Documented wording of 2.x."""

ONLY_NIM = frozenset(
    ("/v1/ranking", "/v1/health/live", "/v1/health/ready", "/v1/metadata", "/v1/metrics"),
)
"""Assumption: the routes of a NIM that the catalog does not have. Its hosts are documented with other paths alone."""

TIME_LIMIT_SECONDS = 120.0
"""Documented default of NIM_SERVER_REQUEST_TIMEOUT_S (2.3)."""

REQUESTS_PER_MINUTE = 40
"""Observed by everybody on the free tier of the catalog; NVIDIA publishes no number."""

HEALTH = {
    # The live body is documented. That the ready body has the same shape is our assumption, as is the one of 503.
    "live": {"object": "health.response", "message": "Service is live.", "status": "live"},
    "ready": {"object": "health.response", "message": "Service is ready.", "status": "ready"},
    "not_ready": {"object": "health.response", "message": "Service is not ready.", "status": "not_ready"},
}


class Reason(StrEnum):
    """Why a request is refused."""

    TOO_LONG = auto()
    INVALID = auto()
    UNKNOWN_FIELD = auto()
    UNKNOWN_MODEL = auto()
    NO_IMAGES = auto()
    NOT_INSTALLED = auto()
    NOT_READY = auto()
    NO_SCORE = auto()
    QUEUE_FULL = auto()
    TOO_SLOW = auto()
    BODY_TOO_LARGE = auto()
    NO_PATH = auto()
    NO_KEY = auto()
    FORBIDDEN = auto()
    NO_CREDIT = auto()
    NOT_FOR_ACCOUNT = auto()
    GONE = auto()
    TOO_MANY = auto()


class RefusalError(Exception):
    """A request that is refused; the behaviour in force puts it in a status and a body.

    Example:
        >>> NIM_1_10.answer(RefusalError(Reason.UNKNOWN_MODEL, "The model 'x' is not served here.")).status
        404
    """

    def __init__(self, reason: Reason, message: str, detail: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.detail = list(detail)


@dataclass(frozen=True)
class Answer:
    """An answer's status, its body (JSON, plain text, or none) and headers beyond the usual."""

    status: int
    body: dict[str, Any] | str | None
    headers: Mapping[str, str] = field(default_factory=dict)


Wording = Callable[[RefusalError], Answer]


def _nim(status: int) -> Wording:
    """Documented shape of a NIM's error (1.10): the reason is under `message`."""

    def word(error: RefusalError) -> Answer:
        detail = {"detail": error.detail} if error.detail else {}
        return Answer(status, {"object": "error", "message": error.message, **detail})

    return word


def _problem(status: int, title: str, *, kind: bool = False, detail: bool = True) -> Wording:
    """Observed shape of the catalog's gateway: a problem with `title` and mostly `detail`."""

    def word(error: RefusalError) -> Answer:
        told = {"detail": error.message} if detail else {}
        return Answer(status, ({"type": "about:blank"} if kind else {}) | {"status": status, "title": title} | told)

    return word


def _error_key(status: int) -> Wording:
    """Observed on the hosted embedding models; that the rerankers say it alike is our assumption."""
    return lambda error: Answer(status, {"error": error.message})


def _no_key(_: RefusalError) -> Answer:
    """Observed: no body, only the header."""
    description = 'error="invalid_token", error_description="Bearer token is missing or malformed"'
    return Answer(401, None, {"WWW-Authenticate": f"Bearer {description}"})


def _no_path(_: RefusalError) -> Answer:
    """Observed: 19 bytes of plain text."""
    return Answer(404, "404 page not found\n")


NIM_WORDINGS: dict[Reason, Wording] = {
    Reason.TOO_LONG: _nim(422),  # documented: 422 since 1.9.1
    Reason.INVALID: _nim(422),  # assumption: what a FastAPI service answers
    Reason.UNKNOWN_FIELD: _nim(400),  # documented for 2.x, the only line that refuses them
    Reason.UNKNOWN_MODEL: _nim(404),  # assumption
    Reason.NO_IMAGES: _nim(422),  # assumption
    Reason.NOT_INSTALLED: _nim(501),  # ours alone: a part of the stand-in that is not installed
    Reason.NO_SCORE: _nim(500),  # ours alone: a scorer that gives a passage no number
    Reason.NOT_READY: _nim(503),  # documented for health as "not 200"; assumption for ranking
    Reason.QUEUE_FULL: _nim(503),  # documented for 2.3
    Reason.TOO_SLOW: _nim(504),  # assumption: the time limit is documented, its status is not
    Reason.BODY_TOO_LARGE: _nim(413),  # assumption
    Reason.NO_PATH: lambda _: Answer(404, {"detail": "Not Found"}),  # assumption: FastAPI's own
    # The catalog's alone. A NIM has words for a request that came in before the behaviour was switched.
    Reason.NO_KEY: _nim(401),
    Reason.FORBIDDEN: _nim(403),
    Reason.NO_CREDIT: _nim(402),
    Reason.NOT_FOR_ACCOUNT: _nim(404),
    Reason.GONE: _nim(410),
    Reason.TOO_MANY: _nim(429),
}

CATALOG_WORDINGS: dict[Reason, Wording] = NIM_WORDINGS | {
    Reason.TOO_LONG: _error_key(400),
    Reason.INVALID: _problem(422, "Unprocessable Entity"),  # assumption
    Reason.UNKNOWN_MODEL: _problem(404, "Not Found"),  # assumption: the body names another model than the path
    Reason.NO_PATH: _no_path,
    Reason.NO_KEY: _no_key,
    Reason.FORBIDDEN: _problem(403, "Forbidden"),
    Reason.NO_CREDIT: _problem(402, "Payment Required"),  # assumption: from the time of credits
    Reason.NOT_FOR_ACCOUNT: _problem(404, "Not Found"),
    Reason.GONE: _problem(410, "Gone", kind=True),
    Reason.TOO_MANY: _problem(429, "Too Many Requests", detail=False),  # observed without Retry-After
}


@dataclass(frozen=True)
class Behaviour:
    """One version of the service.

    Attributes:
        name: As `--behaviour` takes it.
        wordings: Reason to answer.
        token_limits: Limits that differ from those in `connector.CATALOG`, by model.
        default_truncate: What a request without `truncate` means.
        pads_lengths: Whether a refusal tells the padded length instead of the real one.
        strict_fields: Whether unknown fields are refused.
        strict_images: Whether a passage with an image may not carry an empty text.
        queue_limit: Requests that may wait; None for no limit.
        hosted: Whether it is the catalog: paths by model, keys, retired models, a rate limit, no health routes.
    """

    name: str
    wordings: Mapping[Reason, Wording]
    token_limits: Mapping[str, int] = field(default_factory=dict)
    default_truncate: Truncate = "NONE"  # documented for the NIM
    pads_lengths: bool = False
    strict_fields: bool = False
    strict_images: bool = False
    queue_limit: int | None = None
    hosted: bool = False

    def answer(self, error: RefusalError) -> Answer:
        """Put a refusal in a status and a body."""
        return self.wordings[error.reason](error)

    def answer_with(self, status: int, message: str) -> Answer:
        """Put a status in words that no request has earned: as the first reason that has it, else as a NIM would.

        Example:
            >>> API_CATALOG.answer_with(429, "").body
            {'status': 429, 'title': 'Too Many Requests'}
        """
        error = RefusalError(Reason.NOT_READY, message)
        answers = (wording(error) for wording in self.wordings.values())
        return next((answer for answer in answers if answer.status == status), None) or _nim(status)(error)

    def told_length(self, length: int) -> int:
        """Return the length that a refusal tells for a pair of `length` tokens.

        Before 1.9.1 the numbers seen were 1,024 for a limit of 512 and 16,384 for 8,192: padded, we assume to the
        next power of two.

        Example:
            >>> BEHAVIOURS["nim-1.9"].told_length(8206), BEHAVIOURS["nim-1.10"].told_length(8206)
            (16384, 8206)
        """
        return 1 << (length - 1).bit_length() if self.pads_lengths else length


NIM_1_10 = Behaviour(
    "nim-1.10",
    NIM_WORDINGS,
    token_limits={DEFAULT_MODEL: 10_240},  # documented for 1.12, the first line with this model
)
NIM_1_9 = Behaviour(
    "nim-1.9",
    NIM_WORDINGS | {Reason.TOO_LONG: _nim(400)},  # documented: 400 up to 1.9.0
    token_limits={},  # the default model came later: this line keeps to the table of models
    pads_lengths=True,
)
NIM_2 = Behaviour(
    "nim-2",
    NIM_WORDINGS | {Reason.TOO_LONG: _nim(400), Reason.INVALID: _nim(400)},  # assumption: as for unknown fields
    strict_fields=True,
    strict_images=True,  # documented for 2.0
    queue_limit=1024,  # documented default of NIM_SERVER_MAX_QUEUE_SIZE (2.3)
)
API_CATALOG = Behaviour(
    "catalog",
    CATALOG_WORDINGS,
    default_truncate="END",  # documented for the model that is live; clients should always send the field
    hosted=True,
)
BEHAVIOURS = {behaviour.name: behaviour for behaviour in (NIM_1_9, NIM_1_10, NIM_2, API_CATALOG)}
