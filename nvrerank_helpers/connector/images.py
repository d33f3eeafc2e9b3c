"""The image of a node as a data URL, for models that take images."""

import base64
import binascii
import re
from pathlib import Path

import filetype
from llama_index.core.schema import BaseNode, ImageNode

# Documented for the reranking NIM 2.0; anything else is refused there.
FORMATS = {"image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/tiff"}
KEY = "image"
_DATA_URL = re.compile(r"data:(?P<kind>[\w.+/-]+);base64,(?P<content>.*)", re.DOTALL)


def has_image(node: BaseNode) -> bool:
    """Return whether a node is meant to be seen; a file name under `image` is plain metadata."""
    value = node.metadata.get(KEY)
    inside = isinstance(value, str) and value.startswith("data:image/")
    return inside or (isinstance(node, ImageNode) and bool(node.image or node.image_path or node.image_url))


def encode_image(node: BaseNode) -> str:
    """Return the image of a node that `has_image`, as a data URL.

    A file is read only where an `ImageNode` names it itself, as `image_path`: metadata may come from anywhere.

    Raises:
        ValueError: The image is an http address, cannot be read, or is of a kind that the models do not take.
    """
    try:
        value = node.metadata.get(KEY)
        if isinstance(value, str) and value.startswith("data:image/"):
            return _check(value)
        return _of_image_node(node) if isinstance(node, ImageNode) else ""
    except (ValueError, OSError) as error:
        raise ValueError(f"its image cannot be sent: {error}") from None


def remove_image(node: BaseNode) -> BaseNode:
    """Return the node without the image in its metadata, whose text nobody wants to read."""
    metadata = {key: value for key, value in node.metadata.items() if key != KEY}
    return node.model_copy(update={"metadata": metadata})


def _of_image_node(node: ImageNode) -> str:
    if node.image:
        return _check(node.image) if node.image.startswith("data:") else _encode(_decode(node.image))
    if node.image_path:
        return _encode(Path(node.image_path).read_bytes())
    raise ValueError("it is only an address; fetch it yourself and put in the image")


def _check(value: str) -> str:
    found = _DATA_URL.fullmatch(value)
    if not found:
        raise ValueError("it must be a data URL, like data:image/png;base64,…")
    if found["kind"].lower() not in FORMATS:
        raise ValueError(f"{found['kind']} is not one of {', '.join(sorted(FORMATS))}")
    _decode(found["content"])
    return value


def _decode(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise ValueError(f"it is not base64 ({error})") from None


def _encode(content: bytes) -> str:
    kind = filetype.guess_mime(content)
    if kind not in FORMATS:
        raise ValueError(f"{kind or 'an unknown kind of file'} is not one of {', '.join(sorted(FORMATS))}")
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
