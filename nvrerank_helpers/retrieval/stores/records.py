"""What a store records of a node, and of itself."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self
from uuid import uuid4

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.constants import DATA_KEY
from llama_index.core.schema import BaseNode, MediaResource, MetadataMode
from llama_index.core.storage.docstore.utils import doc_to_json, json_to_doc

from nvrerank_helpers.retrieval.hybrid import check_unique_ids

PROBE = "two roads diverged in a yellow wood"  # embedded whenever a store is opened
MAX_ID_BYTES = 2000  # PostgreSQL's index of a column takes rows of up to 2,704
SAME_VECTOR = 0.99  # cosine; embedding services don't repeat their vectors to the last digit


class Row(NamedTuple):
    """One node in a store.

    Attributes:
        id: The node's id.
        text: What is embedded and indexed by BM25: the text with its metadata.
        node: The whole node as JSON, without its vector.
        vector: The embedding of `text`.
    """

    id: str
    text: str
    node: str
    vector: list[float]


@dataclass(frozen=True)
class StoreMetadata:
    """What a store records of itself, so that it is never searched with vectors of another model.

    Attributes:
        store: A random name, which distinguishes stores that were made at the same place.
        model: Name of the embedding model.
        probe: That model's embedding of `PROBE`; its length is the dimension of the store.
    """

    store: str
    model: str
    probe: list[float]

    @classmethod
    def create(cls, embed_model: BaseEmbedding) -> Self:
        """Describe a store that is made now with this model."""
        return cls(uuid4().hex, embed_model.model_name, embed_model.get_text_embedding(PROBE))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return the record as one line of text."""
        return json.dumps(asdict(self))

    def describe_mismatch(self, current: "StoreMetadata") -> str | None:
        """Say how the current model differs from that of the store; return None if it is the same."""
        if self.model != current.model:
            return f"the model {self.model!r}, not {current.model!r}"
        if len(self.probe) != len(current.probe):
            return f"vectors of {len(self.probe)} numbers, and this model makes {len(current.probe)}"
        if _cosine(self.probe, current.probe) < SAME_VECTOR:
            return f"another version of {self.model!r}, which gave other vectors"
        return None


def make_rows(nodes: Sequence[BaseNode], embed_model: BaseEmbedding, dimension: int) -> list[Row]:
    """Check and embed nodes, and return a row for each."""
    ids = [node.node_id for node in nodes]
    check_ids(ids)
    texts = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
    as_json = [to_json(node) for node in nodes]
    vectors = embed_model.get_text_embedding_batch(texts)
    for id_, vector in zip(ids, vectors, strict=True):
        if len(vector) != dimension or not has_direction(vector):
            raise ValueError(
                f"The embedding of node {id_!r} is not a vector of {dimension} numbers with a direction: "
                f"look at its text and at the embedding model."
            )
    return [Row(*row) for row in zip(ids, texts, as_json, vectors, strict=True)]


def check_ids(ids: Sequence[str]) -> None:
    """Reject an empty list, an id that occurs twice, and a single id, whose letters would be taken for ids."""
    if isinstance(ids, str):
        raise ValueError(f"The ids are a list, such as [{ids!r}], and not a text.")
    if not ids:
        raise ValueError("There is nothing to do: give at least one node or id.")
    check_unique_ids(ids)


def to_json(node: BaseNode) -> str:
    """Write a whole node as JSON, without its vector, so that `from_json` returns an equal one."""
    without_vector = node.model_copy(update={"embedding": None})
    try:
        text = json.dumps(_to_dict(without_vector))
        obstacle = _find_obstacle(without_vector, text)
    except (TypeError, ValueError) as error:
        obstacle = str(error)
    if obstacle:
        raise ValueError(
            f"Node {node.node_id[:100]!r} would not come back unchanged: {obstacle}. Metadata must be what JSON can "
            f"hold: text, numbers, true and false, None, lists, and dicts with text keys. Text must be valid Unicode."
        )
    return text


def from_json(text: str) -> BaseNode:
    """Read a node that `to_json` wrote."""
    return json_to_doc(json.loads(text))


def has_direction(vector: Sequence[float]) -> bool:
    """Whether the length of a vector is finite and not 0."""
    length = math.hypot(*vector)
    return math.isfinite(length) and length > 0


def _to_dict(node: BaseNode) -> dict[str, Any]:
    """Return a node as LlamaIndex writes it, and add the bytes of images and sounds, which LlamaIndex leaves out."""
    written = doc_to_json(node)
    for name, resource in node:
        if isinstance(resource, MediaResource) and resource.data:
            written[DATA_KEY][name]["data"] = resource.data.decode()  # base64
    return written


def _find_obstacle(node: BaseNode, text: str) -> str | None:
    if b"\0" in (node.node_id + node.get_content(metadata_mode=MetadataMode.ALL)).encode():
        return "it contains a character of code 0, which databases don't accept"
    if len(node.node_id.encode()) > MAX_ID_BYTES:
        return f"its id is longer than {MAX_ID_BYTES:,} bytes"
    if from_json(text) != node:
        return "its metadata contains a tuple, a key that isn't text, or NaN, or its class is not known"
    return None


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))
