"""From nodes to passages, and back to nodes that carry facts for display."""

from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, TextNode

from .images import has_image, image_of, without_image
from .protocol import Passage

FAILED = "rerank_failed"  # the metadata that marks a node whose reranking failed


def passage_of(node: BaseNode, mode: MetadataMode, *, takes_images: bool | None) -> Passage:
    """Return what is sent of a node: its text, its image, or both.

    Args:
        node: The node.
        mode: Which metadata stands before the text.
        takes_images: Whether the model takes images; None where that is not known.

    Returns:
        The passage. An empty text beside an image is left out, because NIM 2 refuses it.

    Raises:
        ValueError: The node has neither text nor image, text that is no Unicode, or an image that cannot be sent.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> passage_of(TextNode(text="two roads"), MetadataMode.EMBED, takes_images=False)
        {'text': 'two roads'}
    """
    if not node.metadata and type(node) is TextNode and node.text.isascii() and not node.text.isspace() and node.text:
        return {"text": node.text}  # what nearly every node is, and by far the cheapest to see
    image = image_of(node) if takes_images or has_image(node) else None
    if image and takes_images is False:
        raise ValueError(
            f"Node {node.node_id!r} has an image and the model reads text only: choose a model for images."
        )
    text = (without_image(node) if image else node).get_content(metadata_mode=mode)
    if not text.strip() and not image:
        raise ValueError(f"Node {node.node_id!r} has neither text nor image to rank: leave it out or give it some.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"Node {node.node_id!r} holds text that is not valid Unicode: {error}") from None
    passage: Passage = {"text": text} if text.strip() else {}
    return passage | ({"image": image} if image else {})


def annotated(node: BaseNode, **facts: Any) -> BaseNode:
    """Copy a node and add metadata that people see and models do not.

    Args:
        node: The node, left as it is.
        **facts: Metadata to add, such as a rank or a score.

    Returns:
        A copy whose new metadata is kept out of the text that is embedded or sent to a model.

    Example:
        >>> from llama_index.core.schema import TextNode
        >>> copy = annotated(TextNode(text="two roads"), vector_rank=3)
        >>> copy.metadata, copy.get_content("embed")
        ({'vector_rank': 3}, 'two roads')
    """
    return node.model_copy(
        update={
            "metadata": {**node.metadata, **facts},
            "excluded_embed_metadata_keys": _extended(node.excluded_embed_metadata_keys, facts),
            "excluded_llm_metadata_keys": _extended(node.excluded_llm_metadata_keys, facts),
        }
    )


def reranked(nodes: Sequence[NodeWithScore], scores: Sequence[float], order: Sequence[int]) -> list[NodeWithScore]:
    """Return copies of nodes in their new order.

    Args:
        nodes: The nodes as the first stage ranked them, best first.
        scores: One new score a node.
        order: Positions of the nodes to return.

    Returns:
        New nodes with the new scores, and `first_stage_rank` and `first_stage_score` in the metadata.

    Example:
        >>> found = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in ("one", "two")]
        >>> [(item.text, item.score) for item in reranked(found, [-1.0, 2.0], [1, 0])]
        [('two', 2.0), ('one', -1.0)]
    """
    best = [_ranked(nodes, position, scores[position]) for position in order]
    for item in best:
        item.node.metadata.pop(FAILED, None)  # an earlier call may have failed on it
    return best


def kept(nodes: Sequence[NodeWithScore], top_n: int | None, error: Exception) -> list[NodeWithScore]:
    """Return copies of the first nodes in the order of the first stage, marked.

    Args:
        nodes: The nodes as the first stage ranked them, best first.
        top_n: How many to return; None returns all.
        error: Why they were not reranked.

    Returns:
        New nodes with the scores of the first stage, the metadata of `reranked`, and the class of the error as
        `rerank_failed`.

    Example:
        >>> found = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in ("one", "two")]
        >>> kept(found, 1, TimeoutError())[0].metadata
        {'first_stage_rank': 1, 'first_stage_score': 0.5, 'rerank_failed': 'TimeoutError'}
    """
    facts = {FAILED: type(error).__name__}
    return [_ranked(nodes, position, item.score, **facts) for position, item in enumerate(nodes[:top_n])]


def _ranked(nodes: Sequence[NodeWithScore], position: int, score: float | None, **facts: Any) -> NodeWithScore:
    first = nodes[position]
    node = annotated(first.node, first_stage_rank=position + 1, first_stage_score=first.score, **facts)
    return NodeWithScore(node=node, score=score)


def _extended(keys: list[str], facts: dict[str, Any]) -> list[str]:
    return [*keys, *(fact for fact in facts if fact not in keys)]
