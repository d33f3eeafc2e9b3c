"""Chat completions and embeddings over HTTP: OpenAI's shapes, refusals, and the clients that people use."""

import base64
import json
from collections.abc import AsyncIterator, Iterator
from threading import Event
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from llama_index.core import get_response_synthesizer
from llama_index.core.llms import ChatMessage
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.llms.nvidia import NVIDIA
from numpy.typing import NDArray

from nvrerank_helpers.nim_standin.openai import routes
from nvrerank_helpers.nim_standin.openai.extractive import NO_ANSWER, NO_CONTEXT
from nvrerank_helpers.nim_standin.openai.schemas import CHAT_MODEL, CONTEXT_WINDOW, EMBEDDING_MODEL
from nvrerank_helpers.nim_standin.process import StandIn
from nvrerank_helpers.nim_standin.scoring.jobs import EmbeddingsUnavailableError

CHAT, EMBEDDINGS = "/v1/chat/completions", "/v1/embeddings"
CONTEXT = (
    "name: heapq.nlargest\n\nReturn a list with the n largest elements of a dataset.\n\nname: open\n\nOpen a file."
)
QUESTION = "How do I find the largest elements?"
PROMPT = f"{CONTEXT}\n\n{QUESTION}"
ANSWER = "“Return a list with the n largest elements of a dataset.” [heapq.nlargest]"


@pytest.fixture
async def client(connect: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with connect() as client:
        yield client


def question(**changes: Any) -> dict[str, Any]:
    return {"model": CHAT_MODEL, "messages": [{"role": "user", "content": PROMPT}], **changes}


async def reply(client: httpx.AsyncClient, **changes: Any) -> tuple[str, str]:
    """Return the text of an answer, and why it ends there."""
    [choice] = (await client.post(CHAT, json=question(**changes))).json()["choices"]
    return choice["message"]["content"], choice["finish_reason"]


def in_parts(*parts: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": part} for part in parts]}


def texts(*given: str, **changes: Any) -> dict[str, Any]:
    return {"model": EMBEDDING_MODEL, "input": list(given), **changes}


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    *chunks, done, empty = answer.text.split("\n\n")
    assert (done, empty) == ("data: [DONE]", "")
    return [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]


def vectors(answer: httpx.Response) -> NDArray[np.float64]:
    return np.array([entry["embedding"] for entry in answer.json()["data"]])


async def test_an_answer_has_the_shape_of_openai(client: httpx.AsyncClient) -> None:
    answer = (await client.post(CHAT, json=question())).json()
    assert (answer["object"], answer["model"]) == ("chat.completion", CHAT_MODEL)
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": ANSWER}
    assert choice["finish_reason"] == "stop"
    words = len(PROMPT.split()), len(ANSWER.split())
    names = "prompt_tokens", "completion_tokens", "total_tokens"
    assert answer["usage"] == dict(zip(names, (*words, sum(words)), strict=True))


async def test_two_answers_have_two_ids(client: httpx.AsyncClient) -> None:
    first, second = [(await client.post(CHAT, json=question())).json() for _ in range(2)]
    assert first["id"] != second["id"]


async def test_a_message_may_come_in_parts(client: httpx.AsyncClient) -> None:
    assert await reply(client, messages=[in_parts(CONTEXT, QUESTION)]) == (ANSWER, "stop")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Hello!", NO_CONTEXT),
        ("", NO_CONTEXT),
        (f"{CONTEXT}\n\nWhat is the capital of France?", NO_ANSWER),
        (f"Context: {CONTEXT}\nQuestion: \nAnswer:", NO_ANSWER),
    ],
)
async def test_without_an_answer_it_says_why(client: httpx.AsyncClient, content: str, expected: str) -> None:
    assert await reply(client, messages=[{"role": "user", "content": content}]) == (expected, "stop")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"max_tokens": 3}, ("“Return a list", "length")),
        ({"max_completion_tokens": 3}, ("“Return a list", "length")),
        ({"stop": " list"}, ("“Return a", "stop")),
        ({"stop": ["never", " list"]}, ("“Return a", "stop")),
    ],
)
async def test_an_answer_ends_at_the_limit_of_tokens_or_before_a_stop_text(
    client: httpx.AsyncClient, changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert await reply(client, **changes) == expected


async def test_a_stream_sends_the_answer_word_by_word(client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, json=question(stream=True, max_tokens=4))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert {event["object"] for event in events(answer)} == {"chat.completion.chunk"}
    choices = [event["choices"][0] for event in events(answer)]
    contents = [choice["delta"].get("content") for choice in choices]
    assert contents == ["", "“Return", " a", " list", " with", None]
    assert choices[0]["delta"]["role"] == "assistant"
    assert [choice["finish_reason"] for choice in choices] == [None] * 5 + ["length"]


async def test_a_stream_ends_with_the_usage_if_asked(client: httpx.AsyncClient) -> None:
    asked = question(stream=True, stream_options={"include_usage": True}, max_tokens=2)
    *_, last = events(await client.post(CHAT, json=asked))
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.1, "top_p": 1, "seed": 7.0, "n": 1, "user": "me", "logprobs": False},
        {"stop": None, "tools": None, "max_tokens": None, "response_format": {"type": "text"}},
        {"frequency_penalty": 0, "presence_penalty": 0.5, "stream": False},
    ],
)
async def test_what_changes_nothing_is_taken(client: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    assert await reply(client, **changes) == (ANSWER, "stop")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tools": [{"type": "function"}]}, "tools: The extractive stand-in calls no tools"),
        ({"functions": []}, "functions: The extractive stand-in calls no tools"),
        ({"logprobs": True}, "logprobs: The extractive stand-in has no probabilities"),
        ({"n": 2}, "n: "),
        ({"response_format": {"type": "json_object"}}, "response_format.type: Input should be 'text'"),
        ({"messages": []}, "messages: "),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "Input should be 'text'"),
        ({"stream": "yes"}, "stream: "),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"messages": [in_parts("x" * 100_001, "x" * 100_000)]}, "parts of a message have at most 200,000 characters"),
    ],
)
async def test_what_cannot_be_done_is_refused(client: httpx.AsyncClient, changes: dict[str, Any], words: str) -> None:
    answer = await client.post(CHAT, json=question(**changes))
    assert answer.status_code == 422
    assert words in answer.json()["message"]


@pytest.mark.parametrize(("path", "body"), [(CHAT, question()), (EMBEDDINGS, texts("x"))])
async def test_another_model_is_refused(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    answer = await client.post(path, json={**body, "model": "someone/else"})
    assert answer.status_code == 404
    assert body["model"] in answer.json()["message"]


@pytest.mark.parametrize(("path", "body"), [(CHAT, question()), (EMBEDDINGS, texts(QUESTION))])
async def test_half_a_surrogate_pair_is_refused(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    content = json.dumps(body).replace(QUESTION, r"\ud800")
    answer = await client.post(path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 422


async def test_a_message_in_parts_may_be_as_long_as_an_undivided_one(client: httpx.AsyncClient) -> None:
    answer = await client.post(CHAT, json=question(messages=[in_parts("x" * 100_000, "x" * 99_999)]))
    assert answer.status_code == 200


async def test_reading_a_conversation_ends_at_the_time_limit(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    timed_out = Event()
    monkeypatch.setattr(routes, "_read_conversation", lambda _: timed_out.wait(60))
    async with connect(time_limit=0.01) as client:
        assert (await client.post(CHAT, json=question())).status_code == 504
        timed_out.set()


async def test_a_conversation_beyond_the_window_is_too_long(client: httpx.AsyncClient) -> None:
    message = {"role": "user", "content": "word " * (CONTEXT_WINDOW // 2 + 1)}
    answer = await client.post(CHAT, json=question(messages=[message, message]))
    assert answer.status_code == 422
    assert "exceeds maximum allowed token size 16384" in answer.json()["message"]


async def test_embeddings_are_unit_vectors_that_know_what_is_alike(client: httpx.AsyncClient) -> None:
    answer = await client.post(EMBEDDINGS, json=texts("sort a list", "order the items of a list", "open a socket"))
    found = vectors(answer)
    assert found.shape == (3, 384)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-3)
    assert found[0] @ found[1] > found[0] @ found[2]
    assert [entry["index"] for entry in answer.json()["data"]] == [0, 1, 2]
    assert answer.json()["usage"] == {"prompt_tokens": 18, "total_tokens": 18}


async def test_one_text_need_not_be_in_a_list(client: httpx.AsyncClient) -> None:
    one, many = [(await client.post(EMBEDDINGS, json={**texts(), "input": given})).json() for given in ("a", ["a"])]
    assert one == many


async def test_base64_holds_the_same_numbers(client: httpx.AsyncClient) -> None:
    numbers = await client.post(EMBEDDINGS, json=texts("sort a list"))
    encoded = await client.post(EMBEDDINGS, json=texts("sort a list", encoding_format="base64"))
    decoded = np.frombuffer(base64.b64decode(encoded.json()["data"][0]["embedding"]), dtype="<f4")
    assert decoded.tolist() == vectors(numbers)[0].tolist()


async def test_a_text_that_is_too_long_is_cut_only_where_allowed(client: httpx.AsyncClient) -> None:
    long = "sort " * 600
    kept, cut = [await client.post(EMBEDDINGS, json=texts(long, "a", truncate=how)) for how in ("NONE", "END")]
    assert kept.status_code == 422
    assert "602 exceeds maximum allowed token size 512" in kept.json()["message"]
    assert 400 < cut.json()["usage"]["prompt_tokens"] <= 515


@pytest.mark.parametrize(
    "changes",
    [{"input": []}, {"input": ""}, {"input": [[1, 2]]}, {"input": ["a"] * 513}, {"dimensions": 8}, {"input_type": "x"}],
)
async def test_what_cannot_be_embedded_is_refused(client: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    assert (await client.post(EMBEDDINGS, json={**texts(), "input": "a", **changes})).status_code == 422


class NoVectors:
    """A scorer of pairs."""

    threads, chunk_characters = 1, 1000

    def embed(self, _: list[str], __: int) -> None:
        raise EmbeddingsUnavailableError("This scorer has no vectors.")

    def close(self) -> None:
        pass


async def test_a_scorer_without_vectors_says_so(connect: Any) -> None:
    async with connect(load=NoVectors) as client:
        answer = await client.post(EMBEDDINGS, json=texts("a"))
    assert (answer.status_code, answer.json()["message"]) == (501, "This scorer has no vectors.")


# --- clients that people use


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with StandIn("--threads=2") as standin:
        yield standin.base_url


@pytest.fixture(scope="module")
def llm(url: str) -> NVIDIA:
    # It knows the models of the catalog; of any other it must be given that it is one for chat.
    return NVIDIA(model=CHAT_MODEL, base_url=url, api_key="nvapi-any", is_chat_model=True)


async def test_llama_index_completes_chats_and_streams(llm: NVIDIA) -> None:
    assert llm.complete(PROMPT).text == ANSWER
    assert llm.chat([ChatMessage("Quote the context.", role="system"), ChatMessage(PROMPT)]).message.content == ANSWER
    assert list(llm.stream_complete(PROMPT))[-1].text == ANSWER
    assert (await llm.acomplete(PROMPT)).text == ANSWER
    assert [part.message.content async for part in await llm.astream_chat([ChatMessage(PROMPT)])][-1] == ANSWER


class ThreeNodes(BaseRetriever):
    """Finds the same three nodes for every question."""

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        found = {
            "list.sort": "Sort the list in ascending order and return None.",
            "heapq.nlargest": "Find the n largest elements in a dataset.",
            "open": "Open file and return a stream.",
        }
        return [NodeWithScore(node=TextNode(text=text, metadata={"name": name})) for name, text in found.items()]


@pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.REFINE, ResponseMode.TREE_SUMMARIZE])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_query_engine_answers_with_a_quote(llm: NVIDIA, mode: ResponseMode, streaming: bool) -> None:
    synthesizer = get_response_synthesizer(llm=llm, response_mode=mode, streaming=streaming)
    answer = RetrieverQueryEngine(ThreeNodes(), synthesizer).query("How do I find the n largest elements?")
    assert str(answer) == "“Find the n largest elements in a dataset.” [heapq.nlargest]"


def test_the_client_of_openai_embeds_and_passes_refusals_on(url: str) -> None:
    with openai.OpenAI(base_url=url, api_key="nvapi-any") as client:
        answer = client.embeddings.create(
            model=EMBEDDING_MODEL, input=["sort a list", "open a file"], extra_body={"input_type": "query"}
        )
        with pytest.raises(openai.NotFoundError, match="is not served here"):
            client.chat.completions.create(model="someone/else", messages=[{"role": "user", "content": "?"}])
    assert [len(entry.embedding) for entry in answer.data] == [384, 384]
