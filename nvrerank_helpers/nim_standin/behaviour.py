"""How a reranking NIM answers, as data: the documented facts, and our assumption where none is documented.

The facts are those of the text reranking NIM 1.10 (https://docs.nvidia.com/nim/nemo-retriever/text-reranking/)
and of the API catalog's reference pages (https://docs.api.nvidia.com/nim/reference/).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Truncate = Literal["NONE", "END"]
"""Documented. Some clients mention START; the service does not have it."""

MAX_TOKENS = 8192
"""Documented limit of a query with one passage for this model (2.0 support matrix), special tokens included."""

MAX_CHARACTERS = 14_598_366
"""Documented limit of one text (reference pages of the API catalog)."""

MAX_MODEL_NAME = 128
"""Documented limit of a model's id, in characters (the same pages)."""

DEFAULT_TRUNCATE: Truncate = "NONE"
"""Documented for the NIM. The catalog page of the VL model says END: clients should always send the field."""

HEALTH = {
    # The live body is documented. That the ready body has the same shape is our assumption, as is the one of 503.
    "live": {"object": "health.response", "message": "Service is live.", "status": "live"},
    "ready": {"object": "health.response", "message": "Service is ready.", "status": "ready"},
    "not_ready": {"object": "health.response", "message": "Service is not ready.", "status": "not_ready"},
}

UNKNOWN_PATH_TEXT = "404 page not found\n"
"""Body of the hosted gateway's 404 for a path that names no model, as observed; content type `text/plain`."""


@dataclass(frozen=True)
class Behaviour:
    """The statuses in which versions of the service differ, or that are not established."""

    too_long: int = 422
    """Documented: 422 since 1.9.1; it was 400 before."""
    invalid: int = 422
    """Assumption (a FastAPI service answers so): malformed JSON, a field missing or of the wrong type, an empty
    query, an empty passage or list of passages, more than 512 passages."""
    unknown_model: int = 404
    """Assumption: 404 for a model that is not served."""
    image: int = 501
    """Ours alone: this stand-in reads text only, and says so rather than score a picture as if it were text."""
    not_ready: int = 503
    """Documented for health as "not 200 while loading"; that ranking answers 503 then is our assumption.
    Unknown fields are accepted silently, as the 1.x line does (2.x answers 400)."""


NIM_1_10 = Behaviour()


class RefusalError(Exception):
    """A request that is answered with an error; `body` holds the reason where NIM clients look for it.

    Example:
        >>> RefusalError(404, "The model 'x' is not served here.").body["message"]
        "The model 'x' is not served here."
    """

    def __init__(self, status: int, message: str, detail: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"object": "error", "message": message}
        if detail:
            self.body["detail"] = list(detail)


def invalid_request(status: int, problems: Sequence[Mapping[str, Any]]) -> RefusalError:
    """Put FastAPI's validation report in words, and leave the request's own text out of the answer.

    Args:
        status: HTTP status of the answer.
        problems: Items with `type`, `loc` and `msg`, as `RequestValidationError.errors()` gives them.

    Returns:
        The refusal: `message` tells the first problem, `detail` lists all of them.
    """
    detail = [{name: problem[name] for name in ("type", "loc", "msg")} for problem in problems]
    first = problems[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "json_invalid":
        message = f"The request body is not valid JSON: {first['ctx']['error']} at character {first['loc'][-1]}"
    else:
        message = f"{place}: {first['msg']}"
    more = f" (and {len(detail) - 1} more)" if len(detail) > 1 else ""
    return RefusalError(status, message + more, detail)
