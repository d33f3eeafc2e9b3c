import asyncio
import json

import httpx
import pytest
from connector.client import RankingClient
from connector.dialects import is_tei_refusal, parse_listing
from connector.endpoints import endpoint
from connector.errors import InvalidAnswer, NotFound, PassageTooLong, RequestRefused, RerankError, TooManyPassages
from connector.protocol import sigmoid
from connector.reranker import NVIDIARerank
from fake_service import FakeService
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode
from rerank_services import SERVICES, Cohere, Infinity, LiteLlm, RerankService, SilentTei, Tei, Vllm

PNG = "data:image/png;base64,iVBORw0KGgo="


def client_of(service, model="some/reranker", **arguments):
    return RankingClient(endpoint(service.address, None, {}), model, **service.clients(), **arguments)


def passages(*numbers):
    return [{"text": str(number)} for number in numbers]


def nodes(*numbers):
    return [NodeWithScore(node=TextNode(text=str(number)), score=0.5) for number in numbers]


@pytest.fixture(params=["sync", "async"])
def rank(request):
    def ranked(client, *numbers, truncate="END"):
        if request.param == "sync":
            return client.rank("q", passages(*numbers), truncate)
        return asyncio.run(client.arank("q", passages(*numbers), truncate))

    return ranked


@pytest.mark.parametrize("kind", SERVICES)
def test_every_service_is_understood_at_the_first_call(rank, kind):
    service = kind()
    scores = rank(client_of(service), -2, 3, 1).logits
    assert sorted(range(3), key=lambda place: -scores[place]) == [1, 2, 0]
    assert len(service.bodies) == 1


@pytest.mark.parametrize("kind", SERVICES)
def test_the_model_is_discovered(kind):
    assert client_of(kind(), None).model == "some/reranker"


@pytest.mark.parametrize("kind", SERVICES)
def test_the_service_is_looked_at_once(rank, kind):
    service = kind()
    client = client_of(service)
    rank(client, 1, 2)
    rank(client, 1, 2)
    assert len(service.listings) == len(set(service.listings)) > 0


BODIES = {
    (Vllm, "END"): {"model": "some/reranker", "documents": ["1", "2"], "top_n": 2, "truncate_prompt_tokens": -1},
    (Vllm, "NONE"): {"model": "some/reranker", "documents": ["1", "2"], "top_n": 2},
    (Vllm, None): {"model": "some/reranker", "documents": ["1", "2"], "top_n": 2},
    (Tei, "END"): {"texts": ["1", "2"], "raw_scores": True, "truncate": True},
    (Tei, "NONE"): {"texts": ["1", "2"], "raw_scores": True, "truncate": False},
    (Tei, None): {"texts": ["1", "2"], "raw_scores": True},
    **{
        (Infinity, truncate): {
            "model": "some/reranker",
            "documents": ["1", "2"],
            "top_n": 2,
            "raw_scores": True,
            "return_documents": False,
        }
        for truncate in ("END", "NONE", None)
    },
    **{
        (kind, truncate): {"model": "some/reranker", "documents": ["1", "2"], "top_n": 2}
        for kind in (LiteLlm, Cohere)
        for truncate in ("END", "NONE", None)
    },
}


@pytest.mark.parametrize(("kind", "truncate"), BODIES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_each_service_gets_the_body_that_it_reads(kind, truncate):
    service = kind()
    client_of(service).rank("q", passages(1, 2), truncate)
    assert service.bodies == [{"query": "q"} | BODIES[kind, truncate]]


@pytest.mark.parametrize("kind", [Infinity, LiteLlm, Tei])
def test_logits_are_logits(rank, kind):
    found = rank(client_of(kind()), -2, 3)
    assert (found.logits, found.probabilities) == ([-2, 3], False)


@pytest.mark.parametrize("kind", [Infinity, Tei])
def test_what_was_asked_for_as_logits_is_so_between_0_and_1_too(rank, kind):
    assert rank(client_of(kind()), 0.25, 0.75).probabilities is False


@pytest.mark.parametrize("kind", [Vllm, Cohere])
def test_numbers_from_0_to_1_are_probabilities(rank, kind):
    found = rank(client_of(kind()), -2, 3)
    assert found.logits == pytest.approx([sigmoid(-2), sigmoid(3)])
    assert found.probabilities is True


def reranker_of(service, **arguments):
    return NVIDIARerank(model="some/reranker", base_url=service.address, top_n=None, **service.clients(), **arguments)


@pytest.mark.parametrize("kind", SERVICES)
@pytest.mark.parametrize("scale", [1.0, 10.0, 0.5])
def test_a_sigmoid_is_taken_once_whatever_the_service_sends(kind, scale):
    reranker = reranker_of(kind(), score_transform="sigmoid", sigmoid_scale=scale)
    found = reranker.postprocess_nodes(nodes(-2, 3), query_str="q")
    assert [item.score for item in found] == pytest.approx([sigmoid(3, scale), sigmoid(-2, scale)])


def test_a_threshold_holds_for_small_probabilities():
    reranker = reranker_of(Vllm(), score_transform="sigmoid", min_score=0.3)
    assert [item.text for item in reranker.postprocess_nodes(nodes(-7, 3), query_str="q")] == ["3"]


@pytest.mark.parametrize("score", [0, 1, 0.0, 1.0])
def test_a_probability_at_the_edge_stays_there(score):
    service = Vllm()
    service.score = lambda *_: score
    reranker = reranker_of(service, score_transform="sigmoid", sigmoid_scale=10)
    assert reranker.postprocess_nodes(nodes(5), query_str="q")[0].score == score


def test_a_service_that_once_sent_a_logit_sends_logits():
    client = client_of(LiteLlm())
    assert client.rank("q", passages(0.5, 0.75)).probabilities is True
    assert client.rank("q", passages(0.5, -3)).probabilities is False
    assert client.rank("q", passages(0.5, 0.75)).probabilities is False


def test_nothing_to_rank_is_no_probability():
    assert client_of(Vllm()).rank("q", []).probabilities is False


@pytest.mark.parametrize("words", ["missing field `texts` at line 1", "x: missing field `texts`"])
@pytest.mark.parametrize("status", [400, 422])
def test_tei_is_recognized_by_its_refusal(rank, status, words):
    service = SilentTei()
    service.refusals = [httpx.Response(status, text=words)]
    assert rank(client_of(service), 1, 2).logits == [1, 2]
    assert ["texts" in body for body in service.bodies] == [False, True]


def test_after_its_refusal_tei_is_asked_in_its_own_way():
    service = SilentTei()
    client = client_of(service)
    client.rank("q", passages(1))
    client.rank("q", passages(1))
    assert ["texts" in body for body in service.bodies] == [False, True, True]


def test_calls_that_begin_together_all_learn_from_the_refusal():
    service = SilentTei()
    client = client_of(service)

    async def call():
        return await asyncio.gather(*(client.arank("q", passages(number)) for number in range(8)))

    assert [found.logits for found in asyncio.run(call())] == [[number] for number in range(8)]


def test_a_call_that_is_under_way_when_the_service_is_recognized_is_answered():
    service = SilentTei()
    client = client_of(service, max_batch_size=40, max_concurrency=1)

    async def call():
        return await asyncio.gather(*(client.arank("q", passages(*range(count))) for count in (1, 80, 80)))

    assert [len(found.logits) for found in asyncio.run(call())] == [1, 80, 80]


@pytest.mark.parametrize(
    ("status", "words"), [(422, "missing field `query`"), (404, "missing field `texts`"), (422, "")]
)
def test_other_refusals_are_no_sign_of_tei(status, words):
    assert not is_tei_refusal(status, words)


def test_a_refusal_that_comes_again_is_raised(rank):
    service = SilentTei()
    service.refusals = [httpx.Response(422, text="missing field `texts`") for _ in range(2)]
    with pytest.raises(RequestRefused, match="texts"):
        rank(client_of(service), 1)


@pytest.mark.parametrize(("limit", "sizes"), [(8, [4, 8, 8]), (32, [20]), (1000, [20])])
def test_as_many_passages_are_sent_as_tei_takes(rank, limit, sizes):
    service = Tei()
    service.limit = limit
    rank(client_of(service), *range(20))
    assert sorted(len(body["texts"]) for body in service.bodies) == sizes


@pytest.mark.parametrize("said", [0, -1, True, "32", None, 3.5])
def test_a_limit_of_no_sense_is_taken_as_the_default(said):
    facts = parse_listing(json.dumps({"model_id": "m", "max_client_batch_size": said}).encode())
    assert (facts.model_ids, facts.max_passages) == (["m"], None)


def test_a_tei_that_does_not_tell_its_limit_gets_32():
    service = SilentTei()
    client_of(service).rank("q", passages(*range(40)))
    assert sorted(len(body["texts"]) for body in service.bodies if "texts" in body) == [8, 32]


VLLM_LONG = "This model's maximum context length is 512 tokens. However, you requested"
TOO_LONG = {
    "vLLM 0.8": (
        400,
        {"object": "error", "message": f"{VLLM_LONG} 900 tokens in the input for embedding", "code": 400},
    ),
    "vLLM 0.11": (400, {"error": {"message": f"{VLLM_LONG} 0 output tokens", "param": "input_tokens", "code": 400}}),
    "vLLM of another line": (
        400,
        {
            "error": {
                "message": "You passed 513 input tokens and requested 0 output tokens. However, the model's "
                "context length is only 512 tokens, resulting in a maximum input length of 512 tokens."
            }
        },
    ),
    "vLLM's engine": (
        400,
        {"error": {"message": "The decoder prompt (length 900) is longer than the maximum model length of 512."}},
    ),
    "TEI": (413, {"error": "Input validation error: `inputs` must have less than 512 tokens. Given: 534"}),
    "LiteLLM": (
        400,
        {
            "error": {
                "message": "litellm.ContextWindowExceededError: litellm.BadRequestError: Hosted_vllmException - "
                '{"error":{"message":"This model\'s maximum context length is 512 tokens."}}',
                "code": "400",
            }
        },
    ),
    "llama.cpp": (500, {"error": {"code": 500, "message": "input is too large to process.", "type": "server_error"}}),
    "llama.cpp, newer": (
        500,
        {"error": {"message": "input (900 tokens) is too large to process. increase the physical batch size"}},
    ),
    "llama.cpp, a type": (400, {"error": {"message": "exceed_context_size_error", "code": 400}}),
    "Infinity": (
        422,
        {"detail": [{"loc": ["body", "documents", 0], "msg": "String should have at most 122880 characters"}]},
    ),
    "NIM 1.9": (400, {"error": "Input length 9004 exceeds maximum allowed token size 8192"}),
}
TOO_MANY = {
    "TEI": (413, {"error": "batch size 40 > maximum allowed batch size 32", "error_type": "Validation"}),
    "Infinity": (
        422,
        {
            "detail": [
                {"loc": ["body", "documents"], "msg": "List should have at most 2048 items after validation, not 3000"}
            ]
        },
    ),
    "Jina": (400, {"detail": "[RID: 1] Validation error: Each input list can contain at most 512 items.."}),
    "a body that is too large": (413, {"message": "length limit exceeded"}),
    "Cohere": (400, {"message": "too many documents: at most 10000 are allowed"}),
}


@pytest.mark.parametrize(("status", "body"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_text_that_is_too_long_is_recognized_and_not_sent_again(rank, status, body):
    service = RerankService()
    service.refusals = [httpx.Response(status, json=body)]
    with pytest.raises(PassageTooLong):
        rank(client_of(service), 1)
    assert len(service.bodies) == 1


@pytest.mark.parametrize(("status", "body"), TOO_MANY.values(), ids=TOO_MANY)
def test_too_many_passages_are_recognized(rank, status, body):
    service = RerankService()
    service.refusals = [httpx.Response(status, json=body)]
    with pytest.raises(TooManyPassages, match="max_batch_size"):
        rank(client_of(service), 1)


def test_images_come_by_their_text():
    found = [
        *nodes(1),
        NodeWithScore(node=ImageNode(text="3", image=PNG)),
        NodeWithScore(node=TextNode(text="2", metadata={"image": PNG}, excluded_embed_metadata_keys=["image"])),
        NodeWithScore(node=ImageNode(image=PNG)),
    ]
    service = Vllm()
    best = reranker_of(service).postprocess_nodes(found, query_str="q")
    assert service.bodies[0]["documents"] == ["1", "3", "2"]
    assert [item.node.get_content() for item in best] == ["3", "2", "1", ""]
    assert best[-1].score is None


def test_the_client_takes_no_images_there():
    with pytest.raises(ValueError, match="texts only"):
        client_of(Vllm()).rank("q", [{"text": "1", "image": PNG}])


@pytest.mark.parametrize("kind", SERVICES)
def test_a_model_that_is_not_listed_is_an_error_that_names_those_that_are(rank, kind):
    service = kind()
    with pytest.raises(NotFound, match="does not serve other/model") as raised:
        rank(client_of(service, "other/model"), 1)
    assert "some/reranker" in raised.value.hint
    assert service.bodies == []


def test_fifty_calls_that_begin_together_look_once():
    service = FakeService()
    client = RankingClient(endpoint("http://nim.example/v1", None, {}), "m", async_http_client=service.async_client())

    async def call():
        return await asyncio.gather(*(client.arank("q", passages(number)) for number in range(50)))

    assert [found.logits for found in asyncio.run(call())] == [[number] for number in range(50)]
    assert len(service.listings) == 1


def test_fifty_calls_for_a_model_that_is_not_there_look_once():
    service = FakeService()
    client = RankingClient(endpoint("http://nim.example/v1", None, {}), "x", async_http_client=service.async_client())

    async def call():
        calls = (client.arank("q", passages(number)) for number in range(50))
        return await asyncio.gather(*calls, return_exceptions=True)

    assert {type(found) for found in asyncio.run(call())} == {NotFound}
    assert len(service.listings) == 1


def test_a_model_that_is_loaded_later_is_found():
    service = FakeService()
    client = RankingClient(endpoint("http://nim.example/v1", None, {}), "late", http_client=service.client())
    with pytest.raises(NotFound):
        client.rank("q", passages(1))
    service.models.append("late")
    assert client.rank("q", passages(1)).logits == [1]


LISTS = {
    "no route": httpx.Response(404),
    "no permission": httpx.Response(401),
    "no list": httpx.Response(200, json={"models": "many"}),
    "no json": httpx.Response(200, html="<h1>Welcome</h1>"),
    "an empty list": httpx.Response(200, json={"data": []}),
    "entries without an id": httpx.Response(200, json={"data": [{"name": "m"}]}),
    "entries that are none": httpx.Response(200, json={"data": [1]}),
    "an object": httpx.Response(200, json={"data": {"id": "m"}}),
    "a redirect": httpx.Response(307, headers={"location": "/elsewhere"}),
    "a broken connection": httpx.ReadError("reset"),
}


@pytest.mark.parametrize("listed", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("path", ["/v1", "/rerank"])
def test_a_service_without_a_list_ranks(monkeypatch, rank, listed, path):
    def answer(request):
        if request.method == "GET" and isinstance(listed, Exception):
            raise listed
        return listed if request.method == "GET" else httpx.Response(200, json=ranking)

    ranking = {"rankings": [{"index": 0, "logit": 1}], "results": [{"index": 0, "relevance_score": 1}]}
    service = RerankService()
    service.path = path
    monkeypatch.setattr(RerankService, "__call__", lambda _, request: answer(request))
    assert rank(client_of(service), 1).logits == [1]


@pytest.mark.parametrize("listed", LISTS.values(), ids=LISTS)
def test_without_a_list_no_model_can_be_discovered(monkeypatch, listed):
    service = RerankService()

    def answer(_):
        if isinstance(listed, Exception):
            raise listed
        return listed

    monkeypatch.setattr(service, "list", answer)
    with pytest.raises(RerankError):
        client_of(service, None, max_retries=0)


@pytest.mark.parametrize("name", ["\x1b[31mred\x07", "a\r\nINFO forged", "back\u202ewards", "m" * 100_000])
def test_a_strange_name_of_a_model_does_not_reach_the_terminal(name):
    service = RerankService()
    service.model = name
    with pytest.raises(NotFound) as raised:
        client_of(service, "other/model").rank("q", passages(1))
    text = str(raised.value).replace("\n  What to do: ", "")
    assert text.isprintable()
    assert len(text) < 3000


@pytest.mark.parametrize("name", ["\x1b[31mred\x07", "a\r\nINFO forged", "back\u202ewards"])
def test_a_strange_name_that_was_discovered_does_not_reach_the_terminal(name):
    service = RerankService()
    service.model = name
    service.refusals = [httpx.Response(400)]
    with pytest.raises(RequestRefused) as raised:
        client_of(service, None).rank("q", passages(1))
    assert str(raised.value).replace("\n  What to do: ", "").isprintable()
    assert raised.value.summary.isprintable()


@pytest.mark.parametrize("listed", [{"data": [{"id": None}]}, {"data": [{"id": ["m"]}]}, {"data": [{"id": ""}]}])
def test_an_id_that_is_no_text_is_no_model(monkeypatch, listed):
    service = RerankService()
    monkeypatch.setattr(service, "list", lambda _: httpx.Response(200, json=listed))
    with pytest.raises(InvalidAnswer):
        client_of(service, None)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"7", b'{"data": null}', b"\xff", b'{"model_id": 5, "max_client_batch_size": 1}']
)
def test_what_is_no_list_of_models(body):
    assert parse_listing(body) is None


def test_a_nim_in_front_of_vllm_is_asked_as_a_nim():
    service = FakeService()
    service.models = None

    def answer(request):
        entry = {"id": "m", "owned_by": "vllm"}
        return httpx.Response(200, json={"data": [entry]}) if request.method == "GET" else service(request)

    http_client = httpx.Client(transport=httpx.MockTransport(answer))
    client = RankingClient(endpoint("http://nim.example/v1", None, {}), "m", http_client=http_client)
    assert client.rank("q", passages(1)).logits == [1]
    assert set(service.bodies[0]) == {"model", "query", "passages", "truncate"}
