"""What schemathesis cannot guess from the document: the models that are served, and what a picture is."""

from importlib.util import find_spec
from typing import Any

import schemathesis
from hypothesis import strategies

CAN_READ_PICTURES = find_spec("rapidocr") is not None
SERVED = {
    "/v1/chat/completions": "stand-in/extractive-qa",
    "/v1/embeddings": "stand-in/all-minilm-l6-v2",
}
RERANKER = "nvidia/llama-nemotron-rerank-vl-1b-v2"

# The smallest picture that is one: a single white pixel.
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTjUvgAAAABJRU5ErkJggg=="
)
schemathesis.openapi.format("page-image", strategies.just(PIXEL))


@schemathesis.hook
def map_body(context: schemathesis.HookContext, body: Any) -> Any:
    """Ask most requests of a model that is there; what is no model's name stays as it is."""
    if isinstance(body, dict) and isinstance(body.get("model"), str) and 0 < len(body["model"]) < 100:
        return body | {"model": SERVED.get(context.operation.path, RERANKER)}
    return body


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: Any) -> None:
    """Send no picture to a stand-in that cannot read any."""
    body = case.body
    if not CAN_READ_PICTURES and isinstance(body, dict) and isinstance(body.get("passages"), list):
        case.body = body | {"passages": [_without_picture(passage) for passage in body["passages"]]}


def _without_picture(passage: Any) -> Any:
    """Put a text in the place of the picture: without the extra `images` the answer to one is 501, as documented."""
    if isinstance(passage, dict) and passage.get("image") == PIXEL:
        return {"text": "a page"} | {name: value for name, value in passage.items() if name != "image" and value}
    return passage


@schemathesis.hook
def map_path_parameters(context: schemathesis.HookContext, path_parameters: Any) -> Any:
    """Ask the catalog's path of the model that is there."""
    return path_parameters | {"model": RERANKER} if path_parameters and "model" in path_parameters else path_parameters
