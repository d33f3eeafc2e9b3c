"""The routes of the stand-in: shapes, order, refusals, and readiness."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.requests import ClientDisconnect

from nvrerank_helpers.connector import CATALOG, DEFAULT_MODEL
from nvrerank_helpers.nim_standin.app import create_app
from nvrerank_helpers.nim_standin.asgi.disconnects import BodyTimeout
from nvrerank_helpers.nim_standin.profiles import MAX_BODY_BYTES, MAX_CHARACTERS
from nvrerank_helpers.nim_standin.scoring.engine import Engine
from nvrerank_helpers.nim_standin.scoring.jobs import ScoreError
from nvrerank_helpers.nim_standin.scoring.late_interaction import RelevanceModel
from nvrerank_helpers.nim_standin.server.service import StandInService

OTHER_MODEL = "nvidia/llama-3.2-nv-rerankqa-1b-v2"
SERVED = {DEFAULT_MODEL: None, OTHER_MODEL: None}
JSON = {"content-type": "application/json"}
RANKING = "/v1/ranking"
HOSTED = f"/v1/retrieval/{DEFAULT_MODEL}/reranking"


@pytest.fixture
async def client(connect: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(models=SERVED) as client:
        yield client


def body(**changes: Any) -> dict[str, Any]:
    return {
        "model": DEFAULT_MODEL,
        "query": {"text": "sort a list"},
        "passages": [{"text": "Open a file."}, {"text": "Return a sorted list."}, {"text": "Open a file."}],
        **changes,
    }


async def refusal(client: httpx.AsyncClient, status: int, **request: Any) -> str:
    """Send a request, check the status of the answer, and return its message."""
    answer = await client.post(RANKING, **request)
    assert answer.status_code == status
    return answer.json()["message"]


async def test_rankings_are_sorted_with_ties_in_request_order(client: httpx.AsyncClient) -> None:
    rankings = (await client.post(RANKING, json=body())).json()["rankings"]
    assert [ranking["index"] for ranking in rankings] == [1, 0, 2]
    logits = [ranking["logit"] for ranking in rankings]
    assert logits == sorted(logits, reverse=True)
    assert logits == [float(np.float16(logit)) for logit in logits]


async def test_usage_counts_the_tokens_of_all_pairs(client: httpx.AsyncClient) -> None:
    answer = await client.post(RANKING, json=body(passages=[{"text": "open"}, {"text": "open the"}]))
    assert answer.json()["usage"] == {"prompt_tokens": 15, "total_tokens": 15}


async def test_the_hosted_path_answers_as_the_ranking_route(client: httpx.AsyncClient) -> None:
    local, hosted = [await client.post(path, json=body()) for path in (RANKING, HOSTED)]
    assert hosted.status_code == 200
    assert hosted.json() == local.json()


async def test_a_hosted_path_has_underscores_for_dots_and_answers_for_its_own_model(client: httpx.AsyncClient) -> None:
    path = "/v1/retrieval/nvidia/llama-3_2-nv-rerankqa-1b-v2/reranking"
    assert (await client.post(path, json=body(model=OTHER_MODEL))).status_code == 200
    assert (await client.post(HOSTED, json=body(model=OTHER_MODEL))).status_code == 404


async def test_models_and_metadata_list_the_served_ids(client: httpx.AsyncClient) -> None:
    served = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
    assert served == [DEFAULT_MODEL, OTHER_MODEL, "stand-in/extractive-qa", "stand-in/all-minilm-l6-v2"]
    assert (await client.get("/v1/metadata")).json()["modelInfo"][0]["shortName"] == DEFAULT_MODEL


@pytest.mark.parametrize("state", ["live", "ready"])
async def test_health_answers_in_the_shape_of_a_nim(client: httpx.AsyncClient, state: str) -> None:
    answer = await client.get(f"/v1/health/{state}")
    assert answer.status_code == 200
    assert answer.json() == {"object": "health.response", "message": f"Service is {state}.", "status": state}


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"query": {"text": ""}}, 422, "query.text"),
        ({"query": {}}, 422, "query.text"),
        ({"query": {"text": "\ud800"}}, 422, "not valid JSON"),
        ({"model": "\ud800"}, 422, "not valid JSON"),
        ({"passages": [{"text": "\ud800"}]}, 422, "not valid JSON"),
        ({"passages": []}, 422, "at least 1"),
        ({"passages": [{"text": "private"}] * 513}, 422, "at most 512"),
        ({"passages": [{"text": "x"}, {"text": ""}]}, 422, "passages.1: A passage needs a text that is not empty"),
        ({"passages": [{}]}, 422, "A passage needs a text"),
        ({"truncate": "START"}, 422, "'NONE' or 'END'"),
        ({"model": "m" * 129}, 422, "at most 128 characters"),
        ({"model": "nvidia/gone"}, 404, "'nvidia/gone' is not served here"),
        ({"passages": [{"text": "word " * 10_250}]}, 422, "exceeds maximum allowed token size 10240"),
        ({"passages": [{"text": "a" * 14_598_367}]}, 422, "at most 14598366 characters"),
        ({"model": OTHER_MODEL, "passages": [{"image": "data:,"}]}, 422, "reads text only"),
        ({"passages": [{"text": "x"}, {"image": "data:,"}]}, 422, "passages.1.image: "),
    ],
)
async def test_a_bad_request_is_refused_with_the_reason_and_without_its_text(
    client: httpx.AsyncClient, changes: dict[str, Any], status: int, words: str
) -> None:
    answer = await client.post(RANKING, content=json.dumps(body(**changes)).encode(), headers=JSON)
    assert (answer.status_code, answer.json()["object"]) == (status, "error")
    assert words in answer.json()["message"]
    assert "private" not in answer.text
    assert len(answer.content) < 1000


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"\xff"', b"[" * 100_000, "{}".encode("utf-16")])
async def test_a_body_that_is_no_request_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    assert await refusal(client, 422, content=content, headers=JSON)


async def test_512_passages_are_accepted(client: httpx.AsyncClient) -> None:
    answer = await client.post(RANKING, json=body(passages=[{"text": "x"}] * 512))
    assert len(answer.json()["rankings"]) == 512


async def test_end_cuts_what_none_refuses(client: httpx.AsyncClient) -> None:
    answer = await client.post(RANKING, json=body(passages=[{"text": "word " * 10_250}], truncate="END"))
    assert answer.json()["usage"]["total_tokens"] == 10_240


async def test_while_the_model_loads_the_service_is_live_but_refuses_work(connect: Any, model: RelevanceModel) -> None:
    go = Event()

    def load() -> RelevanceModel:
        go.wait(timeout=60)
        return model

    async with connect(load=load, loaded=False) as client:
        assert (await client.get("/v1/health/live")).status_code == 200
        ready = await client.get("/v1/health/ready")
        assert (ready.status_code, "still loading" in ready.json()["message"]) == (503, True)
        assert "still loading" in await refusal(client, 503, json=body())
        go.set()
        client.engine.loaded.result(timeout=60)
        assert (await client.get("/v1/health/ready")).status_code == 200


async def test_health_answers_while_a_request_is_scored(
    client: httpx.AsyncClient, model: RelevanceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, score = Event(), Event(), model.score

    def wait_and_score(*arguments: Any) -> Any:
        begun.set()
        go.wait(timeout=60)
        return score(*arguments)

    monkeypatch.setattr(model, "score", wait_and_score)
    ranking = asyncio.create_task(client.post(RANKING, json=body()))
    await asyncio.to_thread(begun.wait, 60)
    assert (await client.get("/v1/health/ready")).status_code == 200
    assert not ranking.done()
    go.set()
    assert (await ranking).status_code == 200


async def test_a_crashed_engine_turns_ready_to_503_and_nothing_hangs(
    client: httpx.AsyncClient, model: RelevanceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(model, "score", crash)
    for _ in range(2):
        await refusal(client, 503, json=body())
    ready = await client.get("/v1/health/ready")
    assert (ready.status_code, "no room" in ready.json()["message"]) == (503, True)


async def test_a_request_beyond_the_time_limit_is_aborted(connect: Any) -> None:
    async with connect(time_limit=0) as client:
        assert "longer than 0 seconds" in await refusal(client, 504, json=body())


async def test_a_body_beyond_the_limit_is_refused(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvrerank_helpers.nim_standin.server.schemas.MAX_BODY_BYTES", 1000)
    message = await refusal(client, 413, json=body(passages=[{"text": "x" * 2000}]))
    assert "larger than 1,000 bytes" in message


async def test_a_body_that_declares_to_be_too_large_is_refused_unread(client: httpx.AsyncClient) -> None:
    async def content() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    assert await refusal(client, 413, content=content(), headers=JSON | {"content-length": str(MAX_BODY_BYTES + 1)})


async def test_a_model_that_cannot_load_is_reported_with_the_reason(connect: Any) -> None:
    def fail() -> RelevanceModel:
        raise RuntimeError("no weights here")

    async with connect(load=fail, loaded=False) as client:
        client.engine.loaded.exception(timeout=60)
        ready = await client.get("/v1/health/ready")
    assert (ready.status_code, "no weights here" in ready.json()["message"]) == (503, True)


async def test_a_body_without_the_content_type_of_json_is_refused(client: httpx.AsyncClient) -> None:
    message = await refusal(client, 422, content=json.dumps(body()), headers={"content-type": "text/plain"})
    assert "Content-Type: application/json" in message


async def test_the_api_describes_itself_without_pages_that_load_anything_from_elsewhere(
    client: httpx.AsyncClient,
) -> None:
    assert RANKING in (await client.get("/openapi.json")).json()["paths"]
    assert [(await client.get(page)).status_code for page in ("/docs", "/redoc")] == [404, 404]


async def test_metrics_count_requests_passages_and_tokens(client: httpx.AsyncClient) -> None:
    await client.post(RANKING, json=body())
    await client.post(RANKING, json=body(model="nvidia/gone"))
    answer = await client.get("/v1/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert set(answer.text.splitlines()) >= {
        'nim_requests_total{route="/v1/ranking",status="200"} 1.0',
        'nim_requests_total{route="/v1/ranking",status="404"} 1.0',
        "nim_passages_total 3.0",
        "nim_queue_seconds_count 1.0",
        "nim_inference_seconds_count 1.0",
    }


async def test_a_model_may_have_a_limit_of_tokens_or_of_passages(connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, DEFAULT_MODEL, replace(CATALOG[DEFAULT_MODEL], passage_limit=2))
    async with connect(models={DEFAULT_MODEL: 512}) as client:
        assert "token size 512" in await refusal(client, 422, json=body(passages=[{"text": "word " * 600}]))
        assert "takes at most 2, not 3" in await refusal(client, 422, json=body())


async def test_the_behaviour_can_be_switched_while_it_runs(client: httpx.AsyncClient) -> None:
    assert (await client.put("/stand-in/behaviour", json={"name": "nim-2"})).json()["name"] == "nim-2"
    await refusal(client, 400, json=body(top_k=1))
    refused = await client.put("/stand-in/behaviour", json={"name": "nim-3"})
    assert (refused.status_code, "choose nim-1.9" in refused.json()["message"]) == (422, True)


async def test_a_method_that_a_route_does_not_have_is_refused_with_those_it_has(client: httpx.AsyncClient) -> None:
    answer = await client.post("/stand-in/behaviour", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT")


def test_the_longest_text_fits_into_a_body() -> None:
    assert len(json.dumps(body(passages=[{"text": ""}]))) + 2 * MAX_CHARACTERS < MAX_BODY_BYTES


@pytest.mark.parametrize("many", [b"1,", b"[],", b"{},", b'"",', b'"\\"",'])
async def test_a_body_of_too_many_values_is_not_parsed(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, many: bytes
) -> None:
    monkeypatch.setattr("nvrerank_helpers.nim_standin.server.schemas.MAX_VALUES", 500)
    message = await refusal(client, 422, content=b"[" + many * 500 + b"1]", headers=JSON)
    assert "more than 500 values" in message


async def test_commas_and_brackets_in_a_text_are_no_values(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvrerank_helpers.nim_standin.server.schemas.MAX_VALUES", 20)
    passages = [{"text": '{"a": [1, 2], "b": "\\"}, ' * 20}]
    assert (await client.post(RANKING, json=body(passages=passages))).status_code == 200


async def test_a_refusal_lists_only_the_first_problems(client: httpx.AsyncClient) -> None:
    answer = await client.post(RANKING, json=body(passages=[{}] * 100))
    assert len(answer.json()["detail"]) == 20
    assert answer.json()["message"].endswith("(and 99 more)")


async def test_a_refusal_repeats_the_beginning_of_a_long_name(connect: Any) -> None:
    async with connect("nim-2") as client:
        answer = await client.post(RANKING, json=body(**{"k" * 1000: 1}))
    assert answer.json()["message"].startswith("k" * 64 + ": unknown field")
    assert answer.json()["detail"][0]["loc"] == ["k" * 64]


async def test_a_score_that_is_not_a_number_is_an_error_of_the_service(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def score(*_: Any) -> None:
        raise ScoreError(2)

    monkeypatch.setattr(Engine, "score", score)
    assert "NaN" in await refusal(client, 500, json=body())


# --- clients that disconnect, and bodies that take too long

SCOPE = {"type": "http", "method": "POST", "path": RANKING, "query_string": b"", "http_version": "1.1"}
SCOPE |= {"headers": [(b"content-type", b"application/json")]}


async def disconnect() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def send_through_timeout(app: Any, receive: Any, seconds: float = 60) -> list[Any]:
    sent: list[Any] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await BodyTimeout(app, seconds)({"type": "http"}, receive, send)
    return sent


async def test_work_ends_when_its_client_disconnects(model: RelevanceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = asyncio.Event()

    async def wait_forever(*_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    messages = iter([{"type": "http.request", "body": json.dumps(body()).encode(), "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: dict[str, Any]) -> None:
        raise AssertionError(f"nobody is there for {message}")

    service = StandInService(Engine(lambda: model))
    monkeypatch.setattr(service.engine, "score", wait_forever)
    app = create_app(service)
    async with app.router.lifespan_context(app):
        service.engine.loaded.result(timeout=60)
        await app(SCOPE, receive, send)
    assert cancelled.is_set()


async def test_a_client_that_disconnects_is_not_an_error(model: RelevanceModel) -> None:
    async def app(*_: Any) -> None:
        raise ClientDisconnect

    assert await send_through_timeout(app, disconnect) == []
    await create_app(StandInService(Engine(lambda: model)))(SCOPE, disconnect, None)  # in the middle of its body


async def test_the_end_of_the_service_is_not_a_disconnect() -> None:
    async def app(*_: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await send_through_timeout(app, disconnect)


async def test_a_body_that_does_not_arrive_is_a_408_and_closes_the_connection() -> None:
    async def receive() -> Any:
        await asyncio.Event().wait()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    start, content = await send_through_timeout(app, receive, seconds=0)
    assert (start["status"], (b"connection", b"close") in start["headers"]) == (408, True)
    assert b"did not come within 0 seconds" in content["body"]


async def test_the_time_limit_ends_with_the_body() -> None:
    messages = iter([{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}])
    received: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        received.extend([await receive(), await receive()])

    async def receive() -> Any:
        message = next(messages)
        if message["type"] == "http.disconnect":
            await asyncio.sleep(0)  # a time limit would end here
        return message

    await send_through_timeout(app, receive, seconds=0)
    assert [message["type"] for message in received] == ["http.request", "http.disconnect"]
