"""The `/rerank` dialects: vLLM, Text Embeddings Inference, Infinity, and Cohere's shape, which LiteLLM and others use.

Facts from the services' public source code, read in November 2026; see the README of this folder for the table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from .protocol import Dialect, Passage, Truncate


def _build_documents(model: str, query: str, passages: Sequence[Passage]) -> dict[str, Any]:
    texts = _list_texts(passages)
    # Some services answer with the best few only, unless they are asked for every passage.
    return {"model": model, "query": query, "documents": texts, "top_n": len(texts)}


def _list_texts(passages: Sequence[Passage]) -> list[str]:
    return [passage["text"] for passage in passages]


def _build_cohere_payload(model: str, query: str, passages: Sequence[Passage], _: Truncate | None) -> dict[str, Any]:
    return _build_documents(model, query, passages)  # `truncate` is unknown there


def _build_vllm_payload(model: str, query: str, passages: Sequence[Passage], cut: Truncate | None) -> dict[str, Any]:
    # -1 truncates to what the model takes, and without the field a longer text is refused.
    return _build_documents(model, query, passages) | ({"truncate_prompt_tokens": -1} if cut == "END" else {})


def _build_infinity_payload(model: str, query: str, passages: Sequence[Passage], _: Truncate | None) -> dict[str, Any]:
    return _build_documents(model, query, passages) | {
        "raw_scores": True,
        "return_documents": False,
    }  # always truncates


def _build_tei_payload(_: str, query: str, passages: Sequence[Passage], truncate: Truncate | None) -> dict[str, Any]:
    payload = {"query": query, "texts": _list_texts(passages), "raw_scores": True}
    return payload | ({"truncate": truncate == "END"} if truncate else {})


COHERE = Dialect("Cohere-like", _build_cohere_payload, "results", "relevance_score")
VLLM = Dialect("vLLM", _build_vllm_payload, "results", "relevance_score")
INFINITY = Dialect("Infinity", _build_infinity_payload, "results", "relevance_score", logits=True, max_passages=2048)
TEI = Dialect("Text Embeddings Inference", _build_tei_payload, None, "score", logits=True, max_passages=32)
_BY_OWNER = {"vllm": VLLM, "infinity": INFINITY}


@dataclass(frozen=True)
class Listing:
    """What a service says about itself: its models, its `/rerank` dialect, and how many passages it takes at once."""

    model_ids: list[str]
    dialect: Dialect | None = None
    max_passages: int | None = None


def parse_listing(body: bytes) -> Listing | None:
    """Read the answer of `/v1/models`, `/models` or `/info`; None where it is something else."""
    try:
        answer = from_json(body)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    if isinstance(answer.get("model_id"), str) and "max_client_batch_size" in answer:
        most = answer["max_client_batch_size"]
        return Listing([answer["model_id"]], TEI, most if type(most) is int and most > 0 else None)
    entries, name = answer.get("data"), "id"
    if entries is None:  # Cohere lists what each model is for
        entries, name = answer.get("models"), "name"
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return None
    ids = [entry.get(name) for entry in entries if "rerank" in entry.get("endpoints", ["rerank"])]
    if not all(isinstance(id_, str) and id_ for id_ in ids):
        return None
    owners = {str(entry.get("owned_by")).lower() for entry in entries}
    dialect = next((_BY_OWNER[owner] for owner in sorted(owners) if owner in _BY_OWNER), None)
    return Listing(ids, dialect)


def is_tei_refusal(status: int, message: str) -> bool:
    """Return whether a refusal is that of Text Embeddings Inference for a body in Cohere's shape."""
    return status in (400, 422) and "missing field `texts`" in message
