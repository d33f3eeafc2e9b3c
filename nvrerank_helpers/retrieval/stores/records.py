"""What a store keeps of a node, and of itself."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple
from uuid import uuid4

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.constants import DATA_KEY
from llama_index.core.schema import BaseNode, MediaResource, MetadataMode
from llama_index.core.storage.docstore.utils import doc_to_json, json_to_doc

from nvrerank_helpers.retrieval.hybrid import check_unique

PROBE = "two roads diverged in a yellow wood"  # embedded whenever a store is opened
LONGEST_ID = 2000  # bytes; PostgreSQL's index of a column takes rows of up to 2,704
SAME_VECTOR = 0.99  # cosine; services do not repeat themselves to the last digit


class Row(NamedTuple):
    """One node in a store.

    Attributes:
        id: The node's id.
        text: What was embedded, and what BM25 indexes: the text with its metadata.
        node: The whole node as JSON, without its vector.
        vector: The embedding of `text`.
    """

    id: str
    text: str
    node: str
    vector: list[float]


@dataclass(frozen=True)
class About:
    """What a store records of itself when it is made, so that it is never searched with vectors of another model.

    Attributes:
        store: A random name, which tells one store from another at the same place.
        model: Name of the embedding model.
        probe: What that model makes of `PROBE`; its length is the dimension of the store.
    """

    store: str
    model: str
    probe: list[float]

    @classmethod
    def new(cls, embed_model: BaseEmbedding) -> "About":
        """Describe a store that is made now with this model."""
        return cls(uuid4().hex, embed_model.model_name, embed_model.get_text_embedding(PROBE))

    @classmethod
    def from_json(cls, text: str | bytes) -> "About":
        """Read what a store recorded."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return the record as one line of text."""
        return json.dumps(asdict(self))

    def mismatch(self, now: "About") -> str | None:
        """Say in what the model of now differs from that of the store, or None where it is the same.

        Example:
            >>> About("a", "small", [1.0, 0.0]).mismatch(About("b", "small", [1.0]))
            'vectors of 2 numbers, and this model makes 1'
        """
        if self.model != now.model:
            return f"the model {self.model!r}, not {now.model!r}"
        if len(self.probe) != len(now.probe):
            return f"vectors of {len(self.probe)} numbers, and this model makes {len(now.probe)}"
        if _cosine(self.probe, now.probe) < SAME_VECTOR:
            return f"another version of {self.model!r}, which gave other vectors"
        return None


def rows_of(nodes: Sequence[BaseNode], embed_model: BaseEmbedding, dimension: int) -> list[Row]:
    """Embed nodes and make them ready to be kept.

    Args:
        nodes: The nodes, each with an id of its own. A vector that a node carries is not used.
        embed_model: What makes the vectors.
        dimension: How many numbers a vector of the store has.

    Returns:
        A row for each node, in their order.

    Raises:
        ValueError: No nodes were given, two share an id, or one cannot be kept or has no vector.

    Example:
        >>> rows_of(nodes, StaticEmbedding(), 256)[0].id  # doctest: +SKIP
        'abc'
    """
    check_ids([node.node_id for node in nodes])
    texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
    kept = [to_json(node) for node in nodes]
    vectors = embed_model.get_text_embedding_batch(texts)
    for node, vector in zip(nodes, vectors, strict=True):
        if len(vector) != dimension or not math.isfinite(size := math.hypot(*vector)) or not size:
            raise ValueError(
                f"The embedding of node {node.node_id!r} is no vector of {dimension} numbers with a direction: "
                f"look at its text and at the embedding model."
            )
    return [Row(*row) for row in zip((node.node_id for node in nodes), texts, kept, vectors, strict=True)]


def check_ids(ids: Sequence[str]) -> None:
    """Refuse an empty list, a list that names an id twice, and a single id, whose letters would be taken for ids."""
    if isinstance(ids, str):
        raise ValueError(f"The ids are a list, such as [{ids!r}], and not a text.")
    if not ids:
        raise ValueError("There is nothing to do: give at least one node or id.")
    check_unique(ids)


def to_json(node: BaseNode) -> str:
    """Write a whole node as JSON, without its vector, so that `from_json` gives it back as it was.

    Raises:
        ValueError: The node would not come back as it is, its text is no Unicode, or its id is too long.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> from_json(to_json(TextNode(id_="a", text="two roads", metadata={"page": 3}))).metadata
        {'page': 3}
    """
    kept = node.model_copy(update={"embedding": None})
    try:
        text = json.dumps(_whole(kept))
        obstacle = _obstacle(kept, text)
    except (TypeError, ValueError) as error:
        obstacle = str(error)
    if obstacle:
        raise ValueError(
            f"Node {node.node_id[:100]!r} would not come back as it is: {obstacle}. Metadata must be what JSON holds: "
            f"text, numbers, true and false, None, lists, and dicts with text keys. Text must be valid Unicode."
        )
    return text


def from_json(text: str) -> BaseNode:
    """Read a node that `to_json` wrote."""
    return json_to_doc(json.loads(text))


def _whole(node: BaseNode) -> dict[str, Any]:
    """Return a node as LlamaIndex writes it, with the bytes of images and sounds, which LlamaIndex leaves out."""
    written = doc_to_json(node)
    for name, resource in node:
        if isinstance(resource, MediaResource) and resource.data:
            written[DATA_KEY][name]["data"] = resource.data.decode()  # base64
    return written


def _obstacle(node: BaseNode, text: str) -> str | None:
    if b"\0" in (node.node_id + node.get_content(metadata_mode=MetadataMode.ALL)).encode():
        return "it holds a character of code 0, which databases do not take"
    if len(node.node_id.encode()) > LONGEST_ID:
        return f"its id is longer than {LONGEST_ID:,} bytes"
    if from_json(text) != node:
        return "its metadata holds a tuple, a key that is no text, or a number that is none, or its class is not known"
    return None


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))
