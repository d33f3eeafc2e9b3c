"""How versions of the service answer, as data: one profile per version, one entry per reason to refuse a request.

Each entry says where it comes from: "documented" means NVIDIA's documentation (of the NIM, 1.x and 2.x, at
https://docs.nvidia.com/nim/nemo-retriever/text-reranking/ ; of the API catalog at
https://docs.api.nvidia.com/nim/reference/ ), "observed" means public issues of users. The rest is our assumption,
written here and nowhere else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any, Literal

from nvrerank_helpers.connector import DEFAULT_MODEL

Truncate = Literal["NONE", "END"]
"""Documented. Some clients mention START, which the service does not have."""

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
"""Assumption: most values in a body, counted as its commas and brackets outside of texts. A ranking request has about
four per passage. Parsing blocks the whole service: up to 0.3 s for this many, 9 s for as many as fit into a body."""

MAX_PROBLEMS = 20
"""Assumption: most entries of `detail` in a refusal."""

MAX_NAME = 64
"""Assumption: most characters of a field's name that a refusal repeats."""

UNKNOWN_FIELD = "{field}: unknown field, expected one of {known}"
"""Documented wording of 2.x."""

NIM_ONLY_PATHS = frozenset(("/v1/ranking", "/v1/health/live", "/v1/health/ready", "/v1/metadata", "/v1/metrics"))
"""Assumption: the routes of a NIM that the catalog does not have. Only other paths are documented for its hosts."""

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
    """A refused request; the active profile renders it as a status and a body."""

    def __init__(self, reason: Reason, message: str, detail: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.detail = list(detail)


@dataclass(frozen=True)
class ErrorResponse:
    """A status, a body (JSON, plain text, or none), and headers beyond the usual ones."""

    status: int
    body: dict[str, Any] | str | None
    headers: Mapping[str, str] = field(default_factory=dict)


Renderer = Callable[[RefusalError], ErrorResponse]


def _make_nim_error(status: int) -> Renderer:
    """Documented shape of a NIM's error (1.10): the reason is under `message`."""

    def render(error: RefusalError) -> ErrorResponse:
        detail = {"detail": error.detail} if error.detail else {}
        return ErrorResponse(status, {"object": "error", "message": error.message, **detail})

    return render


def _make_problem(status: int, title: str, *, kind: bool = False, detail: bool = True) -> Renderer:
    """Observed shape of the catalog's gateway: a problem with `title` and mostly `detail`."""

    def render(error: RefusalError) -> ErrorResponse:
        first = {"type": "about:blank"} if kind else {}
        last = {"detail": error.message} if detail else {}
        return ErrorResponse(status, first | {"status": status, "title": title} | last)

    return render


def _make_error_field(status: int) -> Renderer:
    """Observed on the hosted embedding models; that the rerankers do the same is our assumption."""
    return lambda error: ErrorResponse(status, {"error": error.message})


def _render_missing_key(_: RefusalError) -> ErrorResponse:
    """Observed: no body, only the header."""
    description = 'error="invalid_token", error_description="Bearer token is missing or malformed"'
    return ErrorResponse(401, None, {"WWW-Authenticate": f"Bearer {description}"})


def _render_missing_path(_: RefusalError) -> ErrorResponse:
    """Observed: 19 bytes of plain text."""
    return ErrorResponse(404, "404 page not found\n")


NIM_RENDERERS: dict[Reason, Renderer] = {
    Reason.TOO_LONG: _make_nim_error(422),  # documented: 422 since 1.9.1
    Reason.INVALID: _make_nim_error(422),  # assumption: what a FastAPI service answers
    Reason.UNKNOWN_FIELD: _make_nim_error(400),  # documented for 2.x, the only line that refuses them
    Reason.UNKNOWN_MODEL: _make_nim_error(404),  # assumption
    Reason.NO_IMAGES: _make_nim_error(422),  # assumption
    Reason.NOT_INSTALLED: _make_nim_error(501),  # ours alone: a part of the stand-in that is not installed
    Reason.NO_SCORE: _make_nim_error(500),  # ours alone: a scorer that gives a passage no number
    Reason.NOT_READY: _make_nim_error(503),  # documented for health as "not 200"; assumption for ranking
    Reason.QUEUE_FULL: _make_nim_error(503),  # documented for 2.3
    Reason.TOO_SLOW: _make_nim_error(504),  # assumption: the time limit is documented, its status is not
    Reason.BODY_TOO_LARGE: _make_nim_error(413),  # assumption
    Reason.NO_PATH: lambda _: ErrorResponse(404, {"detail": "Not Found"}),  # assumption: FastAPI's own
    # Only the catalog's. A NIM needs them for a request that arrived before the profile was switched.
    Reason.NO_KEY: _make_nim_error(401),
    Reason.FORBIDDEN: _make_nim_error(403),
    Reason.NO_CREDIT: _make_nim_error(402),
    Reason.NOT_FOR_ACCOUNT: _make_nim_error(404),
    Reason.GONE: _make_nim_error(410),
    Reason.TOO_MANY: _make_nim_error(429),
}

CATALOG_RENDERERS: dict[Reason, Renderer] = NIM_RENDERERS | {
    Reason.TOO_LONG: _make_error_field(400),
    Reason.INVALID: _make_problem(422, "Unprocessable Entity"),  # assumption
    Reason.UNKNOWN_MODEL: _make_problem(404, "Not Found"),  # assumption: the body names another model than the path
    Reason.NO_PATH: _render_missing_path,
    Reason.NO_KEY: _render_missing_key,
    Reason.FORBIDDEN: _make_problem(403, "Forbidden"),
    Reason.NO_CREDIT: _make_problem(402, "Payment Required"),  # assumption: from the time of credits
    Reason.NOT_FOR_ACCOUNT: _make_problem(404, "Not Found"),
    Reason.GONE: _make_problem(410, "Gone", kind=True),
    Reason.TOO_MANY: _make_problem(429, "Too Many Requests", detail=False),  # observed without Retry-After
}


@dataclass(frozen=True)
class Profile:
    """One version of the service.

    Attributes:
        name: As `--behaviour` takes it.
        token_limits: Limits by model that differ from those in `connector.CATALOG`.
        default_truncate: What a request without `truncate` means.
        pads_lengths: Whether a refusal gives the padded length instead of the real one.
        strict_fields: Whether unknown fields are refused.
        strict_images: Whether a passage with an image may not carry an empty text.
        queue_limit: Requests that may wait; None for no limit.
        hosted: Whether it is the catalog: paths by model, keys, retired models, a rate limit, no health routes.
    """

    name: str
    renderers: Mapping[Reason, Renderer]
    token_limits: Mapping[str, int] = field(default_factory=dict)
    default_truncate: Truncate = "NONE"  # documented for the NIM
    pads_lengths: bool = False
    strict_fields: bool = False
    strict_images: bool = False
    queue_limit: int | None = None
    hosted: bool = False

    def render(self, error: RefusalError) -> ErrorResponse:
        """Render the response to a refused request."""
        return self.renderers[error.reason](error)

    def render_status(self, status: int, message: str) -> ErrorResponse:
        """Render a status without a reason, in the shape of the first reason that has it, else in a NIM's."""
        error = RefusalError(Reason.NOT_READY, message)
        responses = (render(error) for render in self.renderers.values())
        return next((one for one in responses if one.status == status), None) or _make_nim_error(status)(error)

    def report_length(self, length: int) -> int:
        """Return the length that a refusal reports for a pair of `length` tokens.

        Before 1.9.1 the numbers seen were 1,024 for a limit of 512 and 16,384 for 8,192: padded, we assume to the
        next power of two.

        Example:
            >>> PROFILES["nim-1.9"].report_length(8206), PROFILES["nim-1.10"].report_length(8206)
            (16384, 8206)
        """
        return 1 << (length - 1).bit_length() if self.pads_lengths else length


NIM_1_10 = Profile(
    "nim-1.10",
    NIM_RENDERERS,
    token_limits={DEFAULT_MODEL: 10_240},  # documented for 1.12, the first line with this model
)
NIM_1_9 = Profile(
    "nim-1.9",
    NIM_RENDERERS | {Reason.TOO_LONG: _make_nim_error(400)},  # documented: 400 up to 1.9.0
    token_limits={},  # the default model came later: this line uses the table of models
    pads_lengths=True,
)
NIM_2 = Profile(
    "nim-2",
    # assumption: as for unknown fields
    NIM_RENDERERS | {Reason.TOO_LONG: _make_nim_error(400), Reason.INVALID: _make_nim_error(400)},
    strict_fields=True,
    strict_images=True,  # documented for 2.0
    queue_limit=1024,  # documented default of NIM_SERVER_MAX_QUEUE_SIZE (2.3)
)
API_CATALOG = Profile(
    "catalog",
    CATALOG_RENDERERS,
    default_truncate="END",  # documented for the model that is live; clients should always send the field
    hosted=True,
)
PROFILES = {profile.name: profile for profile in (NIM_1_9, NIM_1_10, NIM_2, API_CATALOG)}
