"""The LLM that answers from reranked passages: NVIDIA's hosted chat model, or the stand-in's, which only quotes."""

import weakref
from typing import Any
from urllib.parse import urlsplit

import httpx
from llama_index.llms.nvidia import NVIDIA
from llama_index.llms.nvidia.utils import BASE_URL

from nvrerank_helpers.connect import stand_in_address
from nvrerank_helpers.connector import find_key, is_loopback, resolve_endpoint, select_key
from nvrerank_helpers.nim_standin import CHAT_MODEL, CONTEXT_WINDOW

HOSTED_MODEL = "openai/gpt-oss-20b"
"""In the table of llama-index-llms-nvidia 0.6 and in the catalog's list of September 2026; the class's own default,
meta/llama3-8b-instruct, is deprecated, and meta/llama-3.3-70b-instruct answers 410."""

HOSTED_CONTEXT = 131_072  # tokens; model card of gpt-oss
HOSTED_ANSWER = 4096  # tokens of an answer: this model thinks before it writes, and its thoughts count

NO_KEY = "no-key"
"""Sent where no key is meant: without one the class would take `NVIDIA_API_KEY` to whatever address it is given."""

TIMEOUT_SECONDS = 60


class AnsweringLLM(NVIDIA):
    """LlamaIndex's class for NVIDIA's chat models, shown as what answers and where, without its key."""

    def __repr__(self) -> str:
        """Return the model and its address."""
        quotes = ", which only quotes what it is given" if self.model == CHAT_MODEL else ""
        return f"{self.model} at {str(self.api_base).rstrip('/')}{quotes}"

    __str__ = __repr__


def nvidia_llm(hosted_model: str = HOSTED_MODEL) -> AnsweringLLM:
    """Choose an LLM by the rules of `connect`, except that a reranking NIM of your own holds no chat model.

    In this order: the service that `NVRERANK_CATALOG_URL` names, with the key where one is set; NVIDIA's API catalog,
    if `NVIDIA_API_KEY` is set; else the stand-in of this process, which is started unless it runs. The key goes to
    the first two only.

    Args:
        hosted_model: Id of the chat model to ask in NVIDIA's API catalog, where models come and go.

    Returns:
        The LLM; its text says which model answers and where. The stand-in's only quotes.

    Raises:
        ValueError: The key is malformed, or `NVRERANK_CATALOG_URL` names another machine.
        StandInError: The stand-in cannot start.
    """
    target = resolve_endpoint(None, None)
    key = select_key(target, None) if find_key() else None
    secret = key.get_secret_value() if key else NO_KEY
    if key and target.hosted:
        return _llm(hosted_model, BASE_URL, secret, HOSTED_CONTEXT, HOSTED_ANSWER)
    return _llm(CHAT_MODEL, f"{stand_in_address()}/v1", secret, CONTEXT_WINDOW)


def _llm(model: str, address: str, secret: str, context: int, answer: int = 1024) -> AnsweringLLM:
    settings: dict[str, Any] = {
        "model": model,
        "base_url": address,
        "api_key": secret,
        "context_window": context,
        "max_tokens": answer,
        "temperature": 0.0,
        "timeout": TIMEOUT_SECONDS,
        "is_chat_model": True,  # or a model that the class does not know is asked for completions
    }
    if is_loopback(urlsplit(address).hostname):  # never behind a proxy, whatever the environment says
        settings["http_client"] = httpx.Client(trust_env=False)
        settings["async_http_client"] = httpx.AsyncClient(trust_env=False)
    llm = AnsweringLLM(**settings)
    if client := settings.get("http_client"):
        weakref.finalize(llm, client.close)
    return llm
