import asyncio
import json

import httpx
import pytest
from asking import client_of, nodes, passages, rank, reranker_of
from connector.dialects import is_tei_refusal, parse_listing
from connector.errors import InvalidAnswer, NotFound, PassageTooLong, RequestRefused, RerankError, TooManyPassages
from connector.protocol import sigmoid
from fake_service import (
    RERANK_SERVICES,
    Cohere,
    FakeService,
    Infinity,
    LiteLlm,
    RerankService,
    SilentTei,
    Tei,
    Vllm,
)
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode

MODEL = "some/reranker"
PNG = "data:image/png;base64,iVBORw0KGgo="
kinds = pytest.mark.parametrize("kind", RERANK_SERVICES)


def dialect_client(service, model=MODEL, **arguments):
    return client_of(service, model, **arguments)


@kinds
def test_every_service_is_understood_at_the_first_call_and_looked_at_once(way, kind):
    service = kind()
    client = dialect_client(service)
    scores = rank(client, -2, 3, 1, way=way).logits
    assert sorted(range(3), key=lambda place: -scores[place]) == [1, 2, 0]
    assert len(service.bodies) == 1
    rank(client, 1, 2, way=way)
    looks = [request.url.path for request in service.listings]
    assert len(looks) == len(set(looks)) > 0


@kinds
def test_the_model_is_discovered(kind):
    assert dialect_client(kind(), None).model == MODEL


BOTH = {"model": MODEL, "documents": ["1", "2"], "top_n": 2}
BODIES = {
    (Vllm, "END"): BOTH | {"truncate_prompt_tokens": -1},
    (Vllm, "NONE"): BOTH,
    (Vllm, None): BOTH,
    (Tei, "END"): {"texts": ["1", "2"], "raw_scores": True, "truncate": True},
    (Tei, "NONE"): {"texts": ["1", "2"], "raw_scores": True, "truncate": False},
    (Tei, None): {"texts": ["1", "2"], "raw_scores": True},
    **{(Infinity, choice): BOTH | {"raw_scores": True, "return_documents": False} for choice in ("END", "NONE", None)},
    **{(kind, choice): BOTH for kind in (LiteLlm, Cohere) for choice in ("END", "NONE", None)},
}


@pytest.mark.parametrize(("kind", "truncate"), BODIES, ids=lambda value: getattr(value, "__name__", str(value)))
def test_each_service_gets_the_body_that_it_reads(kind, truncate):
    service = kind()
    rank(dialect_client(service), 1, 2, truncate=truncate)
    assert service.bodies == [{"query": "q"} | BODIES[kind, truncate]]


@pytest.mark.parametrize("kind", [Infinity, LiteLlm, Tei])
def test_logits_are_logits(way, kind):
    found = rank(dialect_client(kind()), -2, 3, way=way)
    assert (found.logits, found.probabilities) == ([-2, 3], False)


@pytest.mark.parametrize("kind", [Infinity, Tei])
def test_what_was_asked_for_as_logits_is_so_between_0_and_1_too(kind):
    assert rank(dialect_client(kind()), 0.25, 0.75).probabilities is False


@pytest.mark.parametrize("kind", [Vllm, Cohere])
def test_numbers_from_0_to_1_are_probabilities(way, kind):
    found = rank(dialect_client(kind()), -2, 3, way=way)
    assert found.logits == pytest.approx([sigmoid(-2), sigmoid(3)])
    assert found.probabilities is True


def dialect_reranker(service, **arguments):
    return reranker_of(service, model=MODEL, top_n=None, **arguments)


@kinds
@pytest.mark.parametrize("scale", [1.0, 10.0, 0.5])
def test_a_sigmoid_is_taken_once_whatever_the_service_sends(kind, scale):
    reranker = dialect_reranker(kind(), score_transform="sigmoid", sigmoid_scale=scale)
    found = reranker.postprocess_nodes(nodes(-2, 3), query_str="q")
    assert [item.score for item in found] == pytest.approx([sigmoid(3, scale), sigmoid(-2, scale)])


def test_a_threshold_holds_for_small_probabilities():
    reranker = dialect_reranker(Vllm(), score_transform="sigmoid", min_score=0.3)
    assert [item.text for item in reranker.postprocess_nodes(nodes(-7, 3), query_str="q")] == ["3"]


@pytest.mark.parametrize("score", [0, 1, 0.0, 1.0])
def test_a_probability_at_the_edge_stays_there(score):
    service = Vllm()
    service.transform = lambda *_: score
    reranker = dialect_reranker(service, score_transform="sigmoid", sigmoid_scale=10)
    assert reranker.postprocess_nodes(nodes(5), query_str="q")[0].score == score


def test_a_service_that_once_sent_a_logit_sends_logits():
    client = dialect_client(LiteLlm())
    assert [rank(client, 0.5, other).probabilities for other in (0.75, -3, 0.75)] == [True, False, False]


def test_nothing_to_rank_is_no_probability():
    assert rank(dialect_client(Vllm())).probabilities is False


@pytest.mark.parametrize("message", ["missing field `texts` at line 1", "x: missing field `texts`"])
@pytest.mark.parametrize("status", [400, 422])
def test_tei_is_recognized_by_its_refusal_and_asked_in_its_way_from_then_on(way, status, message):
    service = SilentTei()
    service.answers = [httpx.Response(status, text=message)]
    client = dialect_client(service)
    assert [rank(client, 1, 2, way=way).logits for _ in range(2)] == [[1, 2]] * 2
    assert ["texts" in body for body in service.bodies] == [False, True, True]


@pytest.mark.parametrize("counts", [[1] * 8, [1, 80, 80]], ids=["together", "under way"])
def test_calls_that_begin_together_all_learn_from_the_refusal(counts):
    client = dialect_client(SilentTei(), max_batch_size=40, max_concurrency=1)

    async def call():
        return await asyncio.gather(*(client.arank("q", passages(*range(count))) for count in counts))

    assert [found.logits for found in asyncio.run(call())] == [list(range(count)) for count in counts]


@pytest.mark.parametrize(
    ("status", "message"), [(422, "missing field `query`"), (404, "missing field `texts`"), (422, "")]
)
def test_other_refusals_are_no_sign_of_tei(status, message):
    assert not is_tei_refusal(status, message)


def test_a_refusal_that_comes_again_is_raised(way):
    service = SilentTei()
    service.answers = [httpx.Response(422, text="missing field `texts`")] * 2
    with pytest.raises(RequestRefused, match="texts"):
        rank(dialect_client(service), 1, way=way)


@pytest.mark.parametrize(("limit", "sizes"), [(8, [4, 8, 8]), (32, [20]), (1000, [20])])
def test_as_many_passages_are_sent_as_tei_takes(way, limit, sizes):
    service = Tei()
    service.limit = limit
    rank(dialect_client(service), *range(20), way=way)
    assert sorted(len(body["texts"]) for body in service.bodies) == sizes


def test_a_tei_that_does_not_say_its_limit_gets_32():
    service = SilentTei()
    rank(dialect_client(service), *range(40))
    assert sorted(len(body["texts"]) for body in service.bodies if "texts" in body) == [8, 32]


@pytest.mark.parametrize("limit", [0, -1, True, "32", None, 3.5])
def test_a_limit_of_no_sense_is_taken_as_the_default(limit):
    facts = parse_listing(json.dumps({"model_id": "m", "max_client_batch_size": limit}).encode())
    assert (facts.model_ids, facts.max_passages) == (["m"], None)


LONG = "This model's maximum context length is 512 tokens. However, you requested"
TOO_LONG = {
    "vLLM 0.8": (400, {"object": "error", "message": f"{LONG} 900 tokens in the input for embedding", "code": 400}),
    "vLLM 0.11": (400, {"error": {"message": f"{LONG} 0 output tokens", "param": "input_tokens", "code": 400}}),
    "vLLM of another line": (400, {"error": {"message": "However, the model's context length is only 512 tokens, x"}}),
    "vLLM's engine": (400, {"error": {"message": "(length 900) is longer than the maximum model length of 512."}}),
    "TEI": (413, {"error": "Input validation error: `inputs` must have less than 512 tokens. Given: 534"}),
    "LiteLLM": (400, {"error": {"message": "litellm.ContextWindowExceededError: Hosted_vllmException", "code": "400"}}),
    "llama.cpp": (500, {"error": {"code": 500, "message": "input is too large to process.", "type": "server_error"}}),
    "llama.cpp, newer": (500, {"error": {"message": "input (900 tokens) is too large to process. increase the size"}}),
    "llama.cpp, a type": (400, {"error": {"message": "exceed_context_size_error", "code": 400}}),
    "Infinity": (422, {"detail": [{"loc": ["body"], "msg": "String should have at most 122880 characters"}]}),
    "NIM 1.9": (400, {"error": "Input length 9004 exceeds maximum allowed token size 8192"}),
}
TOO_MANY = {
    "TEI": (413, {"error": "batch size 40 > maximum allowed batch size 32", "error_type": "Validation"}),
    "Infinity": (422, {"detail": [{"msg": "List should have at most 2048 items after validation, not 3000"}]}),
    "Jina": (400, {"detail": "[RID: 1] Validation error: Each input list can contain at most 512 items.."}),
    "a body that is too large": (413, {"message": "length limit exceeded"}),
    "Cohere": (400, {"message": "too many documents: at most 10000 are allowed"}),
}
LIMITS = [(PassageTooLong, *case) for case in TOO_LONG.values()] + [
    (TooManyPassages, *case) for case in TOO_MANY.values()
]


@pytest.mark.parametrize(("kind", "status", "body"), LIMITS, ids=[*TOO_LONG, *TOO_MANY])
def test_what_is_too_much_is_recognized_and_not_sent_again(way, kind, status, body):
    service = RerankService()
    service.answers = [httpx.Response(status, json=body)]
    with pytest.raises(kind):
        rank(dialect_client(service), 1, way=way)
    assert len(service.bodies) == 1


def test_images_are_ranked_by_their_text():
    found = [
        *nodes(1),
        NodeWithScore(node=ImageNode(text="3", image=PNG)),
        NodeWithScore(node=TextNode(text="2", metadata={"image": PNG}, excluded_embed_metadata_keys=["image"])),
        NodeWithScore(node=ImageNode(image=PNG)),
    ]
    service = Vllm()
    best = dialect_reranker(service).postprocess_nodes(found, query_str="q")
    assert service.bodies[0]["documents"] == ["1", "3", "2"]
    assert [item.node.get_content() for item in best] == ["3", "2", "1", ""]
    assert best[-1].score is None
    with pytest.raises(ValueError, match="texts only"):
        dialect_client(service).rank("q", [{"text": "1", "image": PNG}])


@kinds
def test_a_model_that_is_not_listed_is_an_error_that_names_those_that_are(way, kind):
    service = kind()
    with pytest.raises(NotFound, match="does not serve other/model") as raised:
        rank(dialect_client(service, "other/model"), 1, way=way)
    assert MODEL in raised.value.hint
    assert service.bodies == []


@pytest.mark.parametrize("model", ["m", "x"], ids=["listed", "not listed"])
def test_fifty_calls_that_begin_together_look_once(service, model):
    client = client_of(service, model)

    async def call():
        calls = (client.arank("q", passages(number)) for number in range(50))
        return await asyncio.gather(*calls, return_exceptions=True)

    found = asyncio.run(call())
    assert len(service.listings) == 1
    if model == "m":
        assert [one.logits for one in found] == [[number] for number in range(50)]
    else:
        assert {type(one) for one in found} == {NotFound}


def test_a_model_that_is_loaded_later_is_found(service):
    client = client_of(service, "late")
    with pytest.raises(NotFound):
        rank(client, 1)
    service.models.append("late")
    assert rank(client, 1).logits == [1]


LISTS = {
    "no route": httpx.Response(404),
    "no permission": httpx.Response(401),
    "no list": httpx.Response(200, json={"models": "many"}),
    "no json": httpx.Response(200, html="<h1>Welcome</h1>"),
    "an empty list": httpx.Response(200, json={"data": []}),
    "entries without an id": httpx.Response(200, json={"data": [{"name": "m"}]}),
    "entries that are none": httpx.Response(200, json={"data": [1]}),
    "an object": httpx.Response(200, json={"data": {"id": "m"}}),
    "ids that are none": httpx.Response(200, json={"data": [{"id": None}, {"id": ["m"]}, {"id": ""}]}),
    "a redirect": httpx.Response(307, headers={"location": "/elsewhere"}),
    "a broken connection": httpx.ReadError("reset"),
}


@pytest.mark.parametrize("listed", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("kind", [FakeService, RerankService, Tei])
def test_without_a_list_a_service_ranks_and_no_model_can_be_discovered(way, listed, kind):
    service = kind()
    service.models = listed
    assert len(rank(client_of(service), 1, way=way).logits) == 1
    with pytest.raises(RerankError):
        client_of(service, None, max_retries=0)


@pytest.mark.parametrize("id_", [None, ["m"], ""])
def test_an_id_that_is_no_text_is_no_model(service, id_):
    service.models = httpx.Response(200, json={"data": [{"id": id_}]})
    with pytest.raises(InvalidAnswer):
        client_of(service, None)


BODIES_OF_NO_LIST = [b"", b"[]", b"7", b"<html>", b'{"data": null}', b'{"data": 1}', b'{"data": [{}]}', b"\xff"]
BODIES_OF_NO_LIST += [b'{"model_id": 5, "max_client_batch_size": 1}', b"[" * 100_000]


@pytest.mark.parametrize("body", BODIES_OF_NO_LIST, ids=lambda body: body[:40])
def test_what_is_no_list_of_models(body):
    assert parse_listing(body) is None


@pytest.mark.parametrize("name", ["\x1b[31mred\x07", "a\r\nINFO forged", "back\u202ewards", "m" * 100_000])
@pytest.mark.parametrize("model", ["other/model", None], ids=["named", "discovered"])
def test_a_strange_name_of_a_model_does_not_reach_the_terminal(name, model):
    service = RerankService()
    service.models, service.answers = [name], [httpx.Response(400)]
    with pytest.raises(NotFound if model else RequestRefused) as raised:
        rank(dialect_client(service, model), 1)
    text = str(raised.value).replace("\n  What to do: ", "")
    assert text.isprintable()
    assert raised.value.summary.isprintable()
    assert len(text) < 3000


def test_a_nim_in_front_of_vllm_is_asked_as_a_nim(service):
    service.models = httpx.Response(200, json={"data": [{"id": "m", "owned_by": "vllm"}]})
    assert rank(client_of(service), 1).logits == [1]
    assert set(service.bodies[0]) == {"model", "query", "passages", "truncate"}
