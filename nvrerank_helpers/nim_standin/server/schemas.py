"""The bodies of ranking requests and responses as types, and how a body is read."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic.json_schema import models_json_schema
from pydantic_core import ErrorDetails, PydanticCustomError

from nvrerank_helpers.connector import CATALOG, DEFAULT_MODEL, MAX_PASSAGES
from nvrerank_helpers.nim_standin.profiles import (
    MAX_BODY_BYTES,
    MAX_CHARACTERS,
    MAX_MODEL_NAME,
    MAX_NAME,
    MAX_PROBLEMS,
    MAX_VALUES,
    UNKNOWN_FIELD,
    Reason,
    RefusalError,
    Truncate,
)

# Pydantic checks a length on valid Unicode only, so a lone surrogate is refused here too.
Text = Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
ModelName = Annotated[str, Field(min_length=1, max_length=MAX_MODEL_NAME)]

MAX_PASSAGES_OF_ANY_MODEL = max([MAX_PASSAGES, *(model.passage_limit for model in CATALOG.values())])
"""The limit of each model is checked once it is known to be served."""

Model = TypeVar("Model", bound=BaseModel)

_REQUIRED: dict[str, JsonValue] = {
    name: {"required": [name], "properties": {name: {"type": "string", "minLength": 1}}} for name in ("text", "image")
}
"""What JSON Schema can express of `_has_content`."""

_EXAMPLE: dict[str, JsonValue] = {
    "model": DEFAULT_MODEL,
    "query": {"text": "how to sort a list"},
    "passages": [{"text": "Return a new sorted list."}, {"text": "Open a file."}],
    "truncate": "END",
}


class RankingQuery(BaseModel):
    """The question, always text."""

    text: Text


class RankingPassage(BaseModel):
    """A passage: a text, the image of a page as a base64 data URL, or both."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [_REQUIRED["text"], _REQUIRED["image"]]})

    text: Annotated[str, Field(max_length=MAX_CHARACTERS)] | None = None
    image: Annotated[Text, Field(json_schema_extra={"format": "page-image"})] | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if not self.text and self.image is None:
            raise PydanticCustomError("passage_empty", "A passage needs a text that is not empty, or an image")
        return self


class RankingRequest(BaseModel):
    """Body of a ranking request."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    model: ModelName
    query: RankingQuery
    passages: Annotated[list[RankingPassage], Field(min_length=1, max_length=MAX_PASSAGES_OF_ANY_MODEL)]
    truncate: Truncate | None = None


class ErrorBody(BaseModel):
    """Why a request was refused."""

    object: Literal["error"] = "error"
    message: str


class Ranking(BaseModel):
    """One passage: its position in the request, and its raw relevance."""

    index: int
    logit: float


class Usage(BaseModel):
    """Tokens of all pairs of query and passage together."""

    prompt_tokens: int
    total_tokens: int


class RankingResponse(BaseModel):
    """Every passage of the request, highest logit first, ties in the order of the request."""

    rankings: list[Ranking]
    usage: Usage


async def parse_body(request: Request, model: type[Model], *, strict: bool = False) -> Model:
    """Read and check a request's body; `strict` refuses unknown fields.

    A `RefusalError` may repeat names of fields, but never a value.
    """
    content = await read_bytes(request, MAX_BODY_BYTES)
    if "json" not in request.headers.get("content-type", ""):
        raise RefusalError(Reason.INVALID, "Send the body as JSON, with Content-Type: application/json")
    # While the parser runs, no other thread does, so a thread would not help: refuse what would take it long.
    if _has_more_values(content, MAX_VALUES):
        raise RefusalError(Reason.INVALID, f"The request body has more than {MAX_VALUES:,} values")
    try:
        return model.model_validate_json(content, extra="forbid" if strict else "ignore")
    except ValidationError as error:
        raise _build_refusal(model, error.errors(include_url=False, include_input=False)) from None


async def read_bytes(request: Request, max_bytes: int) -> bytes:
    """Read a request's body, or raise a `RefusalError` if it is larger or declares that it is."""
    too_large = RefusalError(Reason.BODY_TOO_LARGE, f"The request body is larger than {max_bytes:,} bytes")
    if int(request.headers.get("content-length", 0)) > max_bytes:
        raise too_large
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > max_bytes:
            raise too_large
    return bytes(content)


def _has_more_values(content: bytes, limit: int) -> bool:
    """Estimate from above how many values a JSON text has, as fast as memory is read."""
    bare = content.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') > 4 * limit:  # names and texts
        return True
    outside = b"".join(bare.split(b'"')[::2])
    return sum(map(outside.count, (b",", b"[", b"{"))) > limit


def locate(problem: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Return where in a body a problem of pydantic's is, with no name longer than `MAX_NAME`."""
    return tuple(part[:MAX_NAME] if isinstance(part, str) else part for part in problem["loc"])


def _build_refusal(model: type[BaseModel], problems: Sequence[ErrorDetails]) -> RefusalError:
    """Turn pydantic's report into a refusal: the message has the first problem, the detail the first 20."""
    first = problems[0]
    place = ".".join(map(str, locate(first)))
    unknown = first["type"] == "extra_forbidden"
    if unknown:
        message = UNKNOWN_FIELD.format(field=place, known=", ".join(_list_fields(model, first["loc"][:-1])))
    elif first["type"] == "json_invalid":
        message = f"The request body is not valid JSON: {first['ctx']['error']}"
    else:
        message = f"{place}: {first['msg']}" if place else first["msg"]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    detail = [
        {"type": problem["type"], "loc": locate(problem), "msg": problem["msg"]} for problem in problems[:MAX_PROBLEMS]
    ]
    return RefusalError(Reason.UNKNOWN_FIELD if unknown else Reason.INVALID, message + more, detail)


def _list_fields(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    parts: dict[str, type[BaseModel]] = {"query": RankingQuery, "passages": RankingPassage}
    return list((parts[str(place[0])] if place and model is RankingRequest else model).model_fields)


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that calls `parse_body`."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def describe_schemas(models: Sequence[type[BaseModel]]) -> Mapping[str, Any]:
    """Return the schemas that `describe_body` refers to, by name."""
    definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )[1]
    schemas: Mapping[str, Any] = definitions["$defs"]
    return schemas
