"""Real clients against a stand-in on a real socket: order, scores, and how each handles a refusal or a fault."""

import asyncio
import importlib
import ssl
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache
from typing import Any, ClassVar, get_args
from urllib.parse import urlsplit
from uuid import uuid4

import aiohttp
import httpx
import pytest
from contract import adapters
from contract.adapters import CLIENTS, Client, Fault, LangChain, LlamaIndex, require

from nvrerank_helpers.connector import CATALOG_ADDRESS, CATALOG_VARIABLE, DEFAULT_MODEL
from nvrerank_helpers.nim_standin.control import StandInControl
from nvrerank_helpers.nim_standin.faults.specs import Corruption
from nvrerank_helpers.nim_standin.process import StandIn
from nvrerank_helpers.nim_standin.profiles import PROFILES

IN_EVERY_TABLE = "nvidia/llama-3.2-nv-rerankqa-1b-v1"  # the default model is not in LlamaIndex's
RETIRED = "nvidia/llama-3.2-nv-rerankqa-1b-v2"
TOKENS = 512
PER_MINUTE = 2
KEY = "nvapi-of-this-test"
NIMS = [name for name, profile in PROFILES.items() if not profile.hosted]
QUERY = "How do I sort a list of numbers?"
PASSAGES = [
    "Open a file and read it line by line.",
    "list.sort() sorts a list in place; sorted() returns a new one.",
    "Sort a dictionary by its values with sorted() and a key function.",
    "random.shuffle() puts the items of a list in any order.",
    "Knead the dough, let it rest, and bake it.",
    "Numbers are compared by their value, texts letter by letter.",
    "A socket connects two programs.",
]
CORRUPTIONS = get_args(Corruption)
TABLES = {  # where a client has the catalog's URLs; ours take the address from the environment
    LlamaIndex.package: ("utils", "RANKING_MODEL_TABLE"),
    LangChain.package: ("_statics", "MODEL_TABLE"),
}

Pairs = list[tuple[int, float]]
Rerank = Callable[..., Pairs]


class LangChainAsync(LangChain):
    """The same class by its async method, which is over aiohttp instead of requests."""

    name = "langchain-async-1.5.0"
    kinds: ClassVar = {aiohttp.ClientOSError: "unreachable", aiohttp.ClientPayloadError: "unreachable"}

    def ask(self, query: str, items: list[Any], **settings: Any) -> list[Any]:
        reranker = self.module.NVIDIARerank(model=adapters.MODEL, **settings)
        return list(asyncio.run(reranker.acompress_documents(items, query)))


EVERY = [*CLIENTS, LangChainAsync()]
OURS = [client for client in EVERY if client.name.startswith("ours")]
LLAMA_INDEX = next(client for client in EVERY if isinstance(client, LlamaIndex))
LANGCHAIN = [client for client in EVERY if isinstance(client, LangChain)]
FOREIGN = [LLAMA_INDEX, *LANGCHAIN]

MESSAGES = {  # what an error says about a refusal; LlamaIndex leaves the service's message out
    **dict.fromkeys(OURS, r"(?s)^{kind}: The reranking service answered {status}\b.*{words}"),
    LLAMA_INDEX: r"^HTTPStatusError: (Client|Server) error '{status} ",
    **dict.fromkeys(LANGCHAIN, r"(?s)^Exception: \[{status}\] .*{words}"),
}
STUMBLES = {  # what clients raise by accident for a corrupted response: LlamaIndex, LangChain; they accept the rest
    "negative": (None, "AssertionError"),
    "out_of_range": ("IndexError", "AssertionError"),
    "strings": ("TypeError", None),
    "no_rankings": ("AssertionError", "KeyError"),
    "html": ("JSONDecodeError", "JSONDecodeError"),
    "broken": ("JSONDecodeError", "JSONDecodeError"),
}


@pytest.fixture(autouse=True, scope="module")
def certificates_are_read_once() -> Iterator[None]:
    """Reading them for every client takes half of the time, and nothing here is https."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture(scope="module")
def standin() -> Iterator[StandIn]:
    served = (f"--model={model}={TOKENS}" for model in (DEFAULT_MODEL, IN_EVERY_TABLE))
    with StandIn(*served, f"--requests-per-minute={PER_MINUTE}", "--threads=1") as standin:
        yield standin


@pytest.fixture(scope="module")
def own_answer(standin: StandIn) -> Pairs:
    """Return the order and the scores that the service itself gives."""
    body = {"model": DEFAULT_MODEL, "query": {"text": QUERY}, "passages": [{"text": text} for text in PASSAGES]}
    answer = httpx.post(f"{standin.base_url}/ranking", json=body, trust_env=False).raise_for_status()
    return [(entry["index"], entry["logit"]) for entry in answer.json()["rankings"]]


@pytest.fixture
def control(standin: StandIn) -> StandInControl:
    control = StandInControl(standin.base_url)
    control.clear()
    return control


@pytest.fixture(params=EVERY, ids=str)
def client(request: pytest.FixtureRequest) -> Client:
    return request.param


@pytest.fixture
def rerank(client: Client, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> Rerank:
    """Rerank, and get the position and the score of each passage that came back."""
    require(client)

    def rerank(model: str | None = DEFAULT_MODEL, texts: list[str] = PASSAGES, **settings: Any) -> Pairs:
        monkeypatch.setattr(adapters, "MODEL", model)
        given = {"base_url": standin.base_url, "top_n": len(texts), "max_retries": 0} | settings
        given = {name: value for name, value in given.items() if value is not None}
        return [client.pair(result) for result in client.reranked(QUERY, client.items(texts), **given)]

    return rerank


@pytest.fixture
def address(standin: StandIn, control: StandInControl) -> Iterator[str]:
    """Return the address of the stand-in while it plays NVIDIA's API catalog."""
    with control.behaviour("catalog"):
        yield standin.base_url.removesuffix("/v1")


@pytest.fixture
def hosted(client: Client, rerank: Rerank, address: str, monkeypatch: pytest.MonkeyPatch) -> Rerank:
    """Rerank by key and model alone, as with the catalog; each test has its own key, and so its own rate limit."""
    monkeypatch.setenv(CATALOG_VARIABLE, address)
    if client.package in TABLES:
        module, table = TABLES[client.package]
        for entry in getattr(importlib.import_module(f"{client.package}.{module}"), table).values():
            path = urlsplit(entry.endpoint or "").path
            if path.startswith("/v1/retrieval/"):
                monkeypatch.setattr(entry, "endpoint", address + path)

    def hosted(model: str = IN_EVERY_TABLE, api_key: str = f"nvapi-{uuid4()}", **settings: Any) -> Pairs:
        return rerank(model, base_url=None, api_key=api_key, **settings)

    return hosted


@pytest.fixture
def refusal(client: Client) -> Callable[..., str]:
    """Return a pattern for a client's error after a status."""
    return lambda status, kind, words="": MESSAGES[client].format(status=status, kind=kind, words=words)


# Order and scores


@pytest.mark.parametrize("behaviour", NIMS)
def test_order_and_scores_are_the_services_own(rerank, control, own_answer, behaviour):
    with control.behaviour(behaviour):
        answer = rerank()
    assert answer == own_answer
    assert answer == sorted(answer, key=lambda pair: -pair[1])
    assert len({score for _, score in answer}) == len(PASSAGES)


def test_order_and_scores_are_the_services_own_in_the_catalog(hosted, own_answer):
    assert hosted() == own_answer


@pytest.mark.parametrize("client", [*OURS, *LANGCHAIN], ids=str)
def test_clients_whose_table_has_the_live_model_reach_it_in_the_catalog(hosted, control, own_answer):
    assert hosted(DEFAULT_MODEL) == own_answer
    assert DEFAULT_MODEL in control.requests()[-1].target


def test_llama_index_has_no_url_of_the_live_model_and_asks_that_of_a_retired_one(address):
    require(LLAMA_INDEX)
    with httpx.Client() as http_client:
        with pytest.warns(UserWarning, match=f"Unable to determine validity of {DEFAULT_MODEL}"):
            reranker = LLAMA_INDEX.module.NVIDIARerank(DEFAULT_MODEL, api_key=KEY, http_client=http_client)
        reranker.base_url = reranker.base_url.replace(CATALOG_ADDRESS, address)
        with pytest.raises(httpx.HTTPStatusError, match=r"404 Not Found' for url .*/nv-rerankqa-mistral-4b-v3/"):
            reranker.postprocess_nodes(LLAMA_INDEX.items(PASSAGES), query_str=QUERY)


def test_the_best_n_are_the_first_n(rerank, own_answer):
    assert rerank(top_n=2) == own_answer[:2]


def test_several_batches_give_what_one_gives(rerank, control, own_answer):
    assert rerank(max_batch_size=3) == own_answer
    assert len(control.requests()) == 3


@pytest.mark.filterwarnings("ignore:Default model is set as:UserWarning")
def test_a_client_that_is_given_no_model_finds_the_one_that_ranks(rerank, control, own_answer):
    assert rerank(None) == own_answer
    assert f'"{DEFAULT_MODEL}"' in control.requests()[-1].body


def test_what_is_too_long_is_cut_if_the_client_asks_for_it(rerank):
    assert sorted(index for index, _ in rerank(texts=["word " * 600, *PASSAGES], truncate="END")) == list(range(8))


# Refusals


@pytest.mark.parametrize(
    ("behaviour", "status", "length"), [("nim-1.9", 400, 1024), ("nim-1.10", 422, r"6\d\d"), ("nim-2", 400, r"6\d\d")]
)
def test_what_is_too_long_is_refused(rerank, refusal, control, behaviour, status, length):
    words = f"Input length {length} exceeds maximum allowed token size {TOKENS}"
    with control.behaviour(behaviour), pytest.raises(Fault, match=refusal(status, "passage too long", words)):
        rerank(texts=["word " * 600], truncate="NONE")


def test_what_is_too_long_is_refused_in_the_catalog(hosted, refusal):
    with pytest.raises(Fault, match=refusal(400, "passage too long", r"Input length 6\d\d exceeds maximum allowed")):
        hosted(texts=["word " * 600], truncate="NONE")


@pytest.mark.parametrize("client", OURS, ids=str)
def test_ours_looks_into_the_list_before_it_asks(rerank, control):
    with pytest.raises(Fault, match=r"(?s)^not found: The service does not serve me/my-model .*What to do: Name one"):
        rerank("me/my-model")
    assert control.requests() == []


@pytest.mark.parametrize("client", LANGCHAIN, ids=str)
def test_a_model_that_is_not_served_is_refused(rerank, refusal):
    with pytest.raises(Fault, match=refusal(404, "not found", "The model 'me/my-model' is not served here")):
        rerank("me/my-model")


@pytest.mark.parametrize("client", [LLAMA_INDEX], ids=str)
@pytest.mark.parametrize(
    ("model", "error"),
    [("me/my-model", "^ValueError: No locally hosted me/my-model"), (RETIRED, "^HTTPStatusError: .* '404 ")],
)
def test_llama_index_looks_a_model_up_first_unless_it_is_in_its_table(rerank, control, model, error):
    with pytest.raises(Fault, match=error):
        rerank(model)
    assert len(control.requests()) == (model == RETIRED)


@pytest.mark.parametrize("client", FOREIGN, ids=str)
@pytest.mark.parametrize("texts", [["a"] * 513, ["a", ""]], ids=["too-many", "empty"])
def test_passages_that_only_ours_never_send_are_refused(rerank, refusal, texts):
    words = "(at most 512 items|a text that is not empty)"
    with pytest.raises(Fault, match=refusal(422, "refused", words)):
        rerank(texts=texts, max_batch_size=513)


@pytest.mark.parametrize(("status", "kind"), [(503, "overloaded"), (429, "rate limited"), (500, "server error")])
def test_a_service_in_trouble_is_recognized_by_its_status(rerank, refusal, control, status, kind):
    with control.faults(f"status={status} retry-after=1"), pytest.raises(Fault, match=refusal(status, kind)):
        rerank()


@pytest.mark.parametrize(
    ("key", "status", "kind", "words"),
    [
        ("not-of-nvidia", 401, "unauthorized", ""),
        ("nvapi-revoked", 401, "unauthorized", ""),
        ("nvapi-no-credit", 402, "payment required", "Account has no credits left"),
        ("nvapi-forbidden", 403, "forbidden", "Authorization failed"),
        ("nvapi-other-account", 404, "not found", "Not found for account"),
    ],
)
def test_a_key_that_the_catalog_refuses_is_recognized_by_its_status(hosted, refusal, key, status, kind, words):
    with pytest.raises(Fault, match=refusal(status, kind, words)):
        hosted(api_key=key)


@pytest.mark.filterwarnings("ignore:Model .* is deprecated:UserWarning:langchain_nvidia_ai_endpoints._common")
def test_a_retired_model_of_the_catalog_is_gone(hosted, refusal):
    with pytest.raises(Fault, match=refusal(410, "retired", "reached its end of life on 2026-05-18")):
        hosted(RETIRED, allow_retired=True)


def test_more_requests_than_the_catalog_takes_in_a_minute_are_refused(hosted, refusal):
    for _ in range(PER_MINUTE):
        hosted()
    with pytest.raises(Fault, match=refusal(429, "rate limited", "Too Many Requests")):
        hosted()


@pytest.mark.parametrize("client", [client for client in LANGCHAIN if isinstance(client, LangChainAsync)], ids=str)
def test_langchain_async_drops_the_status_and_the_first_letters_of_a_refusal_in_plain_text(rerank, address):
    with pytest.raises(Fault, match=r"^Exception: \[###\] Unknown Error\nage not found"):
        rerank()


# Faults


@pytest.mark.parametrize("moment", ["before", "middle"])
def test_a_connection_that_breaks_is_recognized(rerank, control, moment):
    with control.faults(f"reset={moment}"), pytest.raises(Fault, match=r"^unreachable: "):
        rerank()


@pytest.mark.parametrize("client", OURS, ids=str)
def test_ours_try_a_fault_that_passes_again(rerank, control, own_answer):
    with control.faults("status=503 times=1 retry-after=0"):
        assert rerank(max_retries=1) == own_answer


@pytest.mark.parametrize("client", FOREIGN, ids=str)
def test_the_others_give_up_at_the_first_fault(rerank, control):
    with control.faults("status=503 times=1 retry-after=0"), pytest.raises(Fault):
        rerank(max_retries=1)
    assert len(control.requests()) == 1


@pytest.mark.parametrize("client", OURS, ids=str)
@pytest.mark.parametrize("corruption", [corruption for corruption in CORRUPTIONS if corruption != "unsorted"])
def test_ours_refuse_a_corrupted_response(rerank, control, corruption):
    with control.faults(f"answer={corruption}"), pytest.raises(Fault, match=r"^invalid answer: "):
        rerank()


@pytest.mark.parametrize("client", OURS, ids=str)
def test_ours_sort_an_unsorted_answer(rerank, control, own_answer):
    with control.faults("answer=unsorted"):
        assert rerank() == own_answer


@pytest.mark.parametrize("client", FOREIGN, ids=str)
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_the_others_accept_a_corrupted_response_or_stumble_over_it(client, rerank, control, corruption):
    error = STUMBLES.get(corruption, (None, None))[client in LANGCHAIN]
    outcome = pytest.raises(Fault, match=f"^{error}: ") if error else nullcontext()
    with control.faults(f"answer={corruption}"), outcome:
        assert rerank()


@pytest.mark.parametrize("client", OURS, ids=str)
def test_ours_fetch_a_response_that_the_catalog_defers(hosted, control, own_answer):
    with control.faults("later=0"):
        assert hosted() == own_answer


@pytest.mark.parametrize("client", [LLAMA_INDEX], ids=str)
def test_llama_index_takes_a_deferred_response_for_a_broken_one(hosted, control):
    with control.faults("later=0"), pytest.raises(Fault, match=r"^JSONDecodeError: "):
        hosted()


def test_langchain_fetches_a_deferred_response_from_a_fixed_address_which_can_be_replaced(address, control, own_answer):
    client = LANGCHAIN[0]
    require(client)
    reranker = client.module.NVIDIARerank(model=DEFAULT_MODEL, api_key=KEY, top_n=len(PASSAGES))
    connection = reranker._client
    connection.infer_path = connection.infer_path.replace(CATALOG_ADDRESS, address)
    fixed = urlsplit(connection.polling_url_tmpl)
    assert fixed.netloc == "api.nvcf.nvidia.com"
    connection.polling_url_tmpl = address + fixed.path
    with control.faults("later=0"):
        answer = reranker.compress_documents(client.items(PASSAGES), QUERY)
    assert [client.pair(result) for result in answer] == own_answer
