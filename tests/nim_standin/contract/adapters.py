"""Every client in one shape: its own kind of items in, its own kind of results out, one `Fault` for all that fails."""

import asyncio
import importlib
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, ClassVar
from unittest.mock import patch

import httpx
import pytest
import requests
from llama_index.core.schema import NodeWithScore, TextNode

from nvrerank_helpers import NVIDIARerank
from nvrerank_helpers.connector import errors

MODEL = "contract-model"


class Fault(Exception):
    """What a client raised (its cause), under a name that is the same for all clients.

    An error whose class does not say what went wrong goes by the name of that class, such as `AssertionError`.
    """


class Client:
    """One client; `kinds` names the classes with which it tells its caller what went wrong.

    `ask` takes the settings of the client's constructor: base_url, top_n, max_batch_size, api_key and so on.
    """

    name: str
    package: str
    kinds: ClassVar[dict[type[Exception], str]]

    def __str__(self) -> str:
        return self.name

    @property
    def module(self) -> Any:
        return importlib.import_module(self.package)

    def items(self, texts: Sequence[str]) -> list[Any]:
        raise NotImplementedError

    def ask(self, query: str, items: list[Any], **settings: Any) -> list[Any]:
        raise NotImplementedError

    def pair(self, result: Any) -> tuple[int, float]:
        raise NotImplementedError

    def metadata(self, item: Any) -> dict[str, Any]:
        raise NotImplementedError

    def reranked(self, query: str, items: list[Any], **settings: Any) -> list[Any]:
        try:
            return self.ask(query, items, **settings)
        except Exception as error:
            kinds = (name for kind, name in self.kinds.items() if isinstance(error, kind))
            raise Fault(f"{next(kinds, type(error).__name__)}: {error}") from error


class _Nodes(Client):
    """A LlamaIndex node postprocessor."""

    def items(self, texts: Sequence[str]) -> list[NodeWithScore]:
        return [
            NodeWithScore(node=TextNode(id_=str(position), text=text), score=0.5) for position, text in enumerate(texts)
        ]

    def pair(self, result: NodeWithScore) -> tuple[int, float]:
        return int(result.node_id), result.score

    def metadata(self, item: NodeWithScore) -> dict[str, Any]:
        return item.node.metadata


class OursSync(_Nodes):
    name = "ours-sync"
    package = "nvrerank_helpers"
    kinds: ClassVar = {
        errors.ServiceUnreachable: "unreachable",
        errors.RerankTimeout: "timeout",
        errors.InvalidAnswer: "invalid answer",
        errors.Unauthorized: "unauthorized",
        errors.PaymentRequired: "payment required",
        errors.Forbidden: "forbidden",
        errors.NotFound: "not found",
        errors.ModelRetired: "retired",
        errors.TooManyPassages: "too many passages",
        errors.PassageTooLong: "passage too long",
        errors.RequestRefused: "refused",
        errors.RateLimited: "rate limited",
        errors.Overloaded: "overloaded",
        errors.ServerError: "server error",
    }

    def ask(self, query: str, items: list[Any], **settings: Any) -> list[Any]:
        with NVIDIARerank(MODEL, **settings) as reranker:
            return reranker.postprocess_nodes(items, query_str=query)


class OursAsync(OursSync):
    name = "ours-async"

    def ask(self, query: str, items: list[Any], **settings: Any) -> list[Any]:
        async def ask() -> list[Any]:
            async with NVIDIARerank(MODEL, **settings) as reranker:
                return await reranker.apostprocess_nodes(items, query_str=query)

        return asyncio.run(ask())


class LlamaIndex(_Nodes):
    name = "llamaindex-0.7.0"
    package = "llama_index.postprocessor.nvidia_rerank"
    kinds: ClassVar = {httpx.TimeoutException: "timeout", httpx.TransportError: "unreachable"}

    def ask(self, query: str, items: list[Any], **settings: Any) -> list[Any]:
        new_client, opened = httpx.Client, ExitStack()
        with opened, patch.object(httpx, "Client", lambda: opened.enter_context(new_client())):
            # It makes two clients and closes neither: here they are closed.
            return self.module.NVIDIARerank(MODEL, **settings).postprocess_nodes(items, query_str=query)


class LangChain(Client):
    name = "langchain-1.5.0"
    package = "langchain_nvidia_ai_endpoints"
    kinds: ClassVar = {
        requests.Timeout: "timeout",
        requests.ConnectionError: "unreachable",
        requests.exceptions.ChunkedEncodingError: "unreachable",
    }

    def items(self, texts: Sequence[str]) -> list[Any]:
        document = importlib.import_module("langchain_core.documents").Document
        return [document(page_content=text, metadata={"position": position}) for position, text in enumerate(texts)]

    def ask(self, query: str, items: list[Any], **settings: Any) -> list[Any]:
        return list(self.module.NVIDIARerank(model=MODEL, **settings).compress_documents(items, query))

    def pair(self, result: Any) -> tuple[int, float]:
        return result.metadata["position"], result.metadata["relevance_score"]

    def metadata(self, item: Any) -> dict[str, Any]:
        return item.metadata


CLIENTS: list[Client] = [OursSync(), OursAsync(), LlamaIndex(), LangChain()]


def require(client: Client) -> None:
    """Skip a test where the package of a client is not installed."""
    pytest.importorskip(client.package, reason=f"{client} comes with the extra dev")
