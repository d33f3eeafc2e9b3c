"""What most tests here do: make passages or nodes, and ask, sync or async."""

import asyncio

from connector.client import RankingClient
from connector.endpoints import resolve_endpoint
from connector.reranker import NVIDIARerank
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.schema import NodeWithScore, TextNode

KEY = "nvapi-secret-of-the-test"
CATALOG = resolve_endpoint(None, None, {})
NIM = resolve_endpoint("http://nim:1976/v1", None, {})


def passages(*numbers):
    return [{"text": str(number)} for number in numbers]


def nodes(*numbers):
    return [NodeWithScore(node=TextNode(id_=f"n{number}", text=str(number)), score=0.5) for number in numbers]


def ids(found):
    return [item.node_id for item in found]


def client_of(service, model="m", target=None, **arguments):
    """Make a client for a fake, in this process or on a socket."""
    if hasattr(service, "clients"):
        arguments = service.clients() | arguments
        address = service.address
    else:
        address = service.base_url
    return RankingClient(target or resolve_endpoint(address, None, {}), model, **arguments)


def reranker_of(service, **arguments):
    given = {"base_url": service.address, "model": "m"} | service.clients()
    return NVIDIARerank(**given | arguments)


def rank(client, *numbers, way="sync", query="q", truncate="END"):
    if way == "sync":
        return client.rank(query, passages(*numbers), truncate)
    return asyncio.run(client.arank(query, passages(*numbers), truncate))


def rerank(reranker, found, way="sync", query="q"):
    if way == "sync":
        return reranker.postprocess_nodes(found, query_str=query)
    return asyncio.run(reranker.apostprocess_nodes(found, query_str=query))


class Recorder(BaseEventHandler):
    """Keeps the events of reranking."""

    events: list

    def handle(self, event, **_):
        if event.class_name().lower().startswith("rerank"):
            self.events.append(event)
