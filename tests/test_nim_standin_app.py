"""The routes of the stand-in: shapes, order, refusals, and readiness."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest

from nvrerank_helpers.catalog import DEFAULT_MODEL
from nvrerank_helpers.nim_standin.app import Service, create_app
from nvrerank_helpers.nim_standin.scoring import RelevanceModel, Scores

OTHER_MODEL = "nvidia/llama-3.2-nv-rerankqa-1b-v2"
JSON = {"content-type": "application/json"}
HOSTED = f"/v1/retrieval/{DEFAULT_MODEL}/reranking"


@pytest.fixture(scope="module")
def model() -> RelevanceModel:
    return RelevanceModel.load(threads=2)


@asynccontextmanager
async def connect(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(service)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://standin") as client,
    ):
        yield client


@pytest.fixture
async def client(model: RelevanceModel, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(model, "close", lambda: None)  # the model is shared by the tests
    service = Service(lambda: model, [DEFAULT_MODEL, OTHER_MODEL])
    async with connect(service) as client:
        service.loaded.result(timeout=10)
        yield client


def body(**changes: Any) -> dict[str, Any]:
    return {
        "model": DEFAULT_MODEL,
        "query": {"text": "sort a list"},
        "passages": [{"text": "Open a file."}, {"text": "Return a sorted list."}, {"text": "Open a file."}],
        **changes,
    }


async def test_rankings_are_sorted_with_ties_in_request_order(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/ranking", json=body())
    assert answer.status_code == 200
    rankings = answer.json()["rankings"]
    assert [ranking["index"] for ranking in rankings] == [1, 0, 2]
    logits = [ranking["logit"] for ranking in rankings]
    assert logits == sorted(logits, reverse=True)
    assert logits == [float(np.float16(logit)) for logit in logits]


async def test_usage_counts_the_tokens_of_all_pairs(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/ranking", json=body(passages=[{"text": "open"}, {"text": "open the"}]))
    assert answer.json()["usage"] == {"prompt_tokens": 15, "total_tokens": 15}


async def test_the_hosted_path_answers_as_the_ranking_route(client: httpx.AsyncClient) -> None:
    local, hosted = [await client.post(path, json=body()) for path in ("/v1/ranking", HOSTED)]
    assert hosted.status_code == 200
    assert hosted.json() == local.json()


async def test_the_hosted_path_has_underscores_for_dots(client: httpx.AsyncClient) -> None:
    path = "/v1/retrieval/nvidia/llama-3_2-nv-rerankqa-1b-v2/reranking"
    assert (await client.post(path, json=body(model=OTHER_MODEL))).status_code == 200


async def test_a_hosted_path_without_a_model_is_a_plain_404(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/retrieval/nvidia/gone/reranking", json=body())
    assert (answer.status_code, answer.text) == (404, "404 page not found\n")
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_hosted_path_answers_for_its_own_model_only(client: httpx.AsyncClient) -> None:
    assert (await client.post(HOSTED, json=body(model=OTHER_MODEL))).status_code == 404


async def test_models_lists_the_served_ids(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models")
    assert answer.json() == {"object": "list", "data": [{"id": DEFAULT_MODEL}, {"id": OTHER_MODEL}]}


@pytest.mark.parametrize("state", ["live", "ready"])
async def test_health_answers_in_the_shape_of_a_nim(client: httpx.AsyncClient, state: str) -> None:
    answer = await client.get(f"/v1/health/{state}")
    assert answer.status_code == 200
    expected = {"object": "health.response", "message": f"Service is {state}.", "status": state}
    assert answer.json() == expected


async def test_unknown_fields_are_ignored(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/ranking", json=body(top_k=3))).status_code == 200


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"query": {"text": ""}}, 422, "query.text"),
        ({"query": {}}, 422, "query.text"),
        ({"query": {"text": "\ud800"}}, 422, "unicode"),
        ({"passages": []}, 422, "at least 1"),
        ({"passages": [{"text": "x"}] * 513}, 422, "at most 512"),
        ({"passages": [{"text": "x"}, {"text": ""}]}, 422, "passages.1.text: String should have at least 1 character"),
        ({"passages": [{}]}, 422, "A passage needs a text"),
        ({"truncate": "START"}, 422, "'NONE' or 'END'"),
        ({"model": "nvidia/gone"}, 404, "'nvidia/gone' is not served here"),
        ({"passages": [{"text": "word " * 8200}]}, 422, "Input length 8206 exceeds maximum allowed token size 8192"),
        ({"passages": [{"image": "data:image/png;base64,AA=="}]}, 501, "reads text only"),
    ],
)
async def test_a_bad_request_is_refused_with_the_reason(
    client: httpx.AsyncClient, changes: dict[str, Any], status: int, words: str
) -> None:
    answer = await client.post("/v1/ranking", content=json.dumps(body(**changes)).encode(), headers=JSON)
    assert answer.status_code == status
    assert answer.json()["object"] == "error"
    assert words in answer.json()["message"]
    assert (await client.post("/v1/ranking", json=body())).status_code == 200


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"\xff"', b"[" * 100_000])
async def test_a_body_that_is_no_request_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/v1/ranking", content=content, headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["message"]


async def test_a_refusal_does_not_repeat_the_text_of_the_request(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/ranking", json=body(passages=[{"text": "private"}] * 513))
    assert "private" not in answer.text


async def test_512_passages_are_accepted(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/ranking", json=body(passages=[{"text": "x"}] * 512))
    assert len(answer.json()["rankings"]) == 512


async def test_end_cuts_what_none_refuses(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/ranking", json=body(passages=[{"text": "word " * 8200}], truncate="END"))
    assert answer.json()["usage"]["total_tokens"] == 8192


async def test_while_the_model_loads_the_service_is_live_but_refuses_work(
    model: RelevanceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "close", lambda: None)
    go = Event()

    def load_when_told() -> RelevanceModel:
        go.wait(timeout=10)
        return model

    service = Service(load_when_told)
    async with connect(service) as client:
        assert (await client.get("/v1/health/live")).status_code == 200
        for answer in (await client.get("/v1/health/ready"), await client.post("/v1/ranking", json=body())):
            assert answer.status_code == 503
            assert "still loading" in answer.json()["message"]
        go.set()
        service.loaded.result(timeout=10)
        assert (await client.get("/v1/health/ready")).status_code == 200


async def test_health_answers_while_a_request_is_scored(model: RelevanceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, score = Event(), Event(), model.score

    def slow_score(*arguments: Any, **options: Any) -> Scores:
        begun.set()
        go.wait(timeout=10)
        return score(*arguments, **options)

    monkeypatch.setattr(model, "close", lambda: None)
    monkeypatch.setattr(model, "score", slow_score)
    async with connect(Service(lambda: model)) as client:
        while (await client.get("/v1/health/ready")).status_code != 200:
            pass
        ranking = asyncio.create_task(client.post("/v1/ranking", json=body()))
        await asyncio.to_thread(begun.wait, 10)
        assert (await client.get("/v1/health/ready")).status_code == 200
        assert not ranking.done()
        go.set()
        assert (await ranking).status_code == 200


async def test_a_model_that_cannot_load_is_reported_with_the_reason() -> None:
    def fail() -> RelevanceModel:
        raise RuntimeError("no weights here")

    service = Service(fail)
    async with connect(service) as client:
        service.loaded.exception(timeout=10)
        answer = await client.get("/v1/health/ready")
        assert answer.status_code == 503
        assert "no weights here" in answer.json()["message"]


async def test_the_api_describes_itself(client: httpx.AsyncClient) -> None:
    assert "/v1/ranking" in (await client.get("/openapi.json")).json()["paths"]


@pytest.mark.parametrize(
    "changes", [{"model": "\ud800"}, {"passages": [{"text": "\ud800"}]}, {"query": {"text": "\ud800"}}]
)
async def test_text_that_is_no_unicode_is_refused(client: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    answer = await client.post("/v1/ranking", content=json.dumps(body(**changes)).encode(), headers=JSON)
    assert answer.status_code == 422


@pytest.mark.parametrize("changes", [{"model": "m" * 129}, {"passages": [{"text": "a" * 14_598_367}]}])
async def test_text_beyond_the_documented_length_is_refused(client: httpx.AsyncClient, changes: dict[str, Any]) -> None:
    answer = await client.post("/v1/ranking", content=json.dumps(body(**changes)).encode(), headers=JSON)
    assert answer.status_code == 422
    assert len(answer.content) < 1000


async def test_a_body_that_is_not_called_json_is_told_so(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/ranking", content=json.dumps(body()), headers={"content-type": "text/plain"})
    assert (answer.status_code, "Content-Type: application/json" in answer.json()["message"]) == (422, True)


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_no_page_loads_anything_from_elsewhere(client: httpx.AsyncClient, page: str) -> None:
    assert (await client.get(page)).status_code == 404
