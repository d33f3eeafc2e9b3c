"""From nodes to passages, and back to nodes in their new order, with facts for display in their metadata."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle, TextNode

from .images import encode_image, has_image, remove_image
from .protocol import Passage

FAILED = "rerank_failed"  # metadata of a node whose call failed: the error's class
SKIPPED = "rerank_skipped"  # metadata of a node that could not be ranked: the reason

logger = logging.getLogger(__name__)


def check_arguments(nodes: Sequence[NodeWithScore], query_bundle: QueryBundle | None) -> None:
    """Refuse the wrong kind of argument with a `ValueError` that says what to pass."""
    if query_bundle is not None and not isinstance(query_bundle, QueryBundle):
        raise ValueError("Pass the query by name, as query_str=..., or as a QueryBundle.")
    if not isinstance(nodes, list | tuple):
        raise ValueError(f"Pass a list of NodeWithScore, not a {type(nodes).__name__}.")
    for position, item in enumerate(nodes):
        if not isinstance(item, NodeWithScore):
            kind = type(item).__name__
            raise ValueError(f"nodes[{position}] is a {kind}: wrap each in NodeWithScore, as NodeWithScore(node=node).")


@dataclass
class Candidates:
    """What is sent of the nodes of a call."""

    passages: list[Passage] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)  # the node that each passage comes from
    skipped: dict[int, str] = field(default_factory=dict)  # the nodes that cannot be ranked, and why


def to_candidates(nodes: Sequence[NodeWithScore], mode: MetadataMode, *, takes_images: bool | None) -> Candidates:
    """Turn nodes into passages. One that cannot be ranked is left out, and one warning in the log names the first."""
    candidates = Candidates()
    for position, item in enumerate(nodes):
        try:
            passage = to_passage(item.node, mode, takes_images=takes_images)
        except Exception as error:  # noqa: BLE001 (a node is data from a store: whatever is wrong with it, others rank)
            candidates.skipped[position] = f"{error}" if isinstance(error, ValueError) else f"{error!r}"
        else:
            candidates.passages.append(passage)
            candidates.positions.append(position)
    if candidates.skipped:
        position, reason = next(iter(candidates.skipped.items()))
        message = "%d of %d nodes cannot be ranked and come last. The first is node %r: %s"
        logger.warning(message, len(candidates.skipped), len(nodes), nodes[position].node_id, reason)
    return candidates


def to_passage(node: BaseNode, mode: MetadataMode, *, takes_images: bool | None) -> Passage:
    """Return what is sent of a node: its text, its image, or both; raise `ValueError` where nothing can be.

    An image that cannot be sent is left out where there is text, and an empty text beside an image too, because NIM 2
    refuses it.
    """
    if not node.metadata and type(node) is TextNode and node.text.isascii() and not node.text.isspace() and node.text:
        return {"text": node.text}  # what nearly every node is, and by far the cheapest to see
    pictured = has_image(node)
    text = (remove_image(node) if pictured else node).get_content(metadata_mode=mode)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"its text is not valid Unicode: {error}") from None
    passage: Passage = {"text": text} if text.strip() else {}
    if pictured and takes_images is not False:
        try:
            passage["image"] = encode_image(node)
        except ValueError as error:
            if not passage:
                raise
            logger.warning("Node %r is ranked by its text alone: %s", node.node_id, error)
    if not passage:
        raise ValueError("it has an image only, and the model reads text" if pictured else "it has no text")
    return passage


def add_metadata(node: BaseNode, **facts: Any) -> BaseNode:
    """Return a copy of a node with more metadata, which is kept out of the text that models see.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> copy = add_metadata(TextNode(text="two roads"), vector_rank=3)
        >>> copy.metadata, copy.get_content("embed")
        ({'vector_rank': 3}, 'two roads')
    """
    update: dict[str, Any] = {"metadata": {**node.metadata, **facts}}
    for name in ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys"):
        update[name] = list(dict.fromkeys([*getattr(node, name), *facts]))
    return node.model_copy(update=update)


def apply_order(nodes: Sequence[NodeWithScore], order: Sequence[tuple[int, float]]) -> list[NodeWithScore]:
    """Return copies of the nodes at some positions with their new scores, and where they came from in the metadata."""
    best = [_copy_node(nodes, position, score) for position, score in order]
    for item in best:  # an earlier call may have failed on it
        item.node.metadata.pop(FAILED, None)
        item.node.metadata.pop(SKIPPED, None)
    return best


def mark_skipped(nodes: Sequence[NodeWithScore], skipped: dict[int, str]) -> list[NodeWithScore]:
    """Return copies of the nodes that could not be ranked, with score None and the reason in the metadata."""
    return [_copy_node(nodes, position, None, **{SKIPPED: reason}) for position, reason in skipped.items()]


def in_first_stage_order(nodes: Sequence[NodeWithScore], top_n: int | None, error: Exception) -> list[NodeWithScore]:
    """Return copies of the first `top_n` nodes in their original order, marked with why they were not reranked."""
    facts = {FAILED: type(error).__name__}
    return [_copy_node(nodes, position, item.score, **facts) for position, item in enumerate(nodes[:top_n])]


def _copy_node(nodes: Sequence[NodeWithScore], position: int, score: float | None, **facts: Any) -> NodeWithScore:
    first = nodes[position]
    node = add_metadata(first.node, first_stage_rank=position + 1, first_stage_score=first.score, **facts)
    return NodeWithScore(node=node, score=score)
