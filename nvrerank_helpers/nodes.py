"""Copies of nodes that carry facts for display."""

from typing import Any

from llama_index.core.schema import BaseNode


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


def _extended(keys: list[str], facts: dict[str, Any]) -> list[str]:
    return [*keys, *(fact for fact in facts if fact not in keys)]
