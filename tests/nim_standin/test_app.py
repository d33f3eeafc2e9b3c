"""The routes of the stand-in: shapes, order, refusals, and readiness."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest

from nvrerank_helpers.connector import CATALOG, DEFAULT_MODEL
from nvrerank_helpers.nim_standin.app import create_app
from nvrerank_helpers.nim_standin.asgi.disconnects import Hangups
from nvrerank_helpers.nim_standin.asgi.waiting import ClientLeftError
from nvrerank_helpers.nim_standin.profiles import BEHAVIOURS, MAX_BODY_BYTES, MAX_CHARACTERS
from nvrerank_helpers.nim_standin.scoring.engine import Engine
from nvrerank_helpers.nim_standin.scoring.jobs import ScoreError
from nvrerank_helpers.nim_standin.scoring.late_interaction import RelevanceModel
from nvrerank_helpers.nim_standin.server.service import Service

OTHER_MODEL = "nvidia/llama-3.2-nv-rerankqa-1b-v2"
JSON = {"content-type": "application/json"}
HOSTED = f"/v1/retrieval/{DEFAULT_MODEL}/reranking"


@pytest.fixture(scope="module")
def model() -> RelevanceModel:
    shared = RelevanceModel.load(threads=2)
    shared.close = lambda: None  # type: ignore[method-assign] # every service closes its model: this one stays
    return shared


def service_of(model: RelevanceModel, behaviour: str = "nim-1.10", **options: Any) -> Service:
    models = {DEFAULT_MODEL: None, OTHER_MODEL: None}
    return Service(Engine(lambda: model), models, BEHAVIOURS[behaviour], **options)


@asynccontextmanager
async def connect(service: Service, loaded: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(service)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://standin") as client,
    ):
        if loaded:
            service.engine.loaded.result(timeout=10)
        yield client


@pytest.fixture
async def client(model: RelevanceModel, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    async with connect(service_of(model)) as client:
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


async def test_a_hosted_path_answers_for_its_own_model_only(client: httpx.AsyncClient) -> None:
    assert (await client.post(HOSTED, json=body(model=OTHER_MODEL))).status_code == 404


async def test_models_lists_the_served_ids(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/models")
    served = [model["id"] for model in answer.json()["data"]]
    assert served == [DEFAULT_MODEL, OTHER_MODEL, "stand-in/extractive-qa", "stand-in/all-minilm-l6-v2"]


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
        ({"query": {"text": "\ud800"}}, 422, "not valid JSON"),
        ({"passages": []}, 422, "at least 1"),
        ({"passages": [{"text": "x"}] * 513}, 422, "at most 512"),
        ({"passages": [{"text": "x"}, {"text": ""}]}, 422, "passages.1: A passage needs a text that is not empty"),
        ({"passages": [{}]}, 422, "A passage needs a text"),
        ({"truncate": "START"}, 422, "'NONE' or 'END'"),
        ({"model": "nvidia/gone"}, 404, "'nvidia/gone' is not served here"),
        ({"passages": [{"text": "word " * 10_250}]}, 422, "exceeds maximum allowed token size 10240"),
        ({"model": OTHER_MODEL, "passages": [{"image": "data:,"}]}, 422, "reads text only"),
        ({"passages": [{"text": "x"}, {"image": "data:,"}]}, 422, "passages.1.image: "),
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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"\xff"', b"[" * 100_000, "{}".encode("utf-16")])
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
    answer = await client.post("/v1/ranking", json=body(passages=[{"text": "word " * 10_250}], truncate="END"))
    assert answer.json()["usage"]["total_tokens"] == 10_240


async def test_while_the_model_loads_the_service_is_live_but_refuses_work(
    model: RelevanceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = Event()

    def load_when_told() -> RelevanceModel:
        go.wait(timeout=10)
        return model

    service = Service(Engine(load_when_told))
    async with connect(service, loaded=False) as client:
        assert (await client.get("/v1/health/live")).status_code == 200
        for answer in (await client.get("/v1/health/ready"), await client.post("/v1/ranking", json=body())):
            assert answer.status_code == 503
            assert "still loading" in answer.json()["message"]
        go.set()
        service.engine.loaded.result(timeout=10)
        assert (await client.get("/v1/health/ready")).status_code == 200


async def test_health_answers_while_a_request_is_scored(model: RelevanceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go, score_jobs = Event(), Event(), model.score_jobs

    def slow(*arguments: Any) -> Any:
        begun.set()
        go.wait(timeout=10)
        return score_jobs(*arguments)

    monkeypatch.setattr(model, "score_jobs", slow)
    async with connect(service_of(model)) as client:
        ranking = asyncio.create_task(client.post("/v1/ranking", json=body()))
        await asyncio.to_thread(begun.wait, 10)
        assert (await client.get("/v1/health/ready")).status_code == 200
        assert not ranking.done()
        go.set()
        assert (await ranking).status_code == 200


async def test_a_crashed_engine_turns_ready_to_503_and_nothing_hangs(
    model: RelevanceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(model, "score_jobs", crash)
    async with connect(service_of(model)) as client:
        for _ in range(2):
            assert (await client.post("/v1/ranking", json=body())).status_code == 503
        ready = await client.get("/v1/health/ready")
        assert (ready.status_code, "no room" in ready.json()["message"]) == (503, True)


async def test_a_request_beyond_the_time_limit_is_given_up(
    model: RelevanceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(service_of(model, time_limit=0)) as client:
        answer = await client.post("/v1/ranking", json=body())
        assert (answer.status_code, "longer than 0 seconds" in answer.json()["message"]) == (504, True)


async def test_a_body_beyond_the_limit_is_refused(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvrerank_helpers.nim_standin.server.schemas.MAX_BODY_BYTES", 1000)
    answer = await client.post("/v1/ranking", json=body(passages=[{"text": "x" * 2000}]))
    assert (answer.status_code, "larger than 1,000 bytes" in answer.json()["message"]) == (413, True)


async def test_work_ends_when_nobody_waits_for_it(model: RelevanceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = asyncio.Event()

    async def wait_for_ever(*_: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    service = service_of(model)
    monkeypatch.setattr(service.engine, "score", wait_for_ever)
    async with connect(service):
        app = create_app(service)
        content = json.dumps(body()).encode()
        messages = iter(({"type": "http.request", "body": content, "more_body": False}, {"type": "http.disconnect"}))

        async def receive() -> dict[str, Any]:
            return next(messages, {"type": "http.disconnect"})

        async def send(message: dict[str, Any]) -> None:
            raise AssertionError(f"nobody is there for {message}")

        scope = {"type": "http", "method": "POST", "path": "/v1/ranking", "query_string": b"", "http_version": "1.1"}
        await app(scope | {"headers": [(b"content-type", b"application/json")]}, receive, send)
        assert cancelled.is_set()


async def test_a_model_that_cannot_load_is_reported_with_the_reason() -> None:
    def fail() -> RelevanceModel:
        raise RuntimeError("no weights here")

    service = Service(Engine(fail))
    async with connect(service, loaded=False) as client:
        service.engine.loaded.exception(timeout=10)
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


async def test_metadata_names_the_model_where_clients_look_for_it(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/metadata")).json()["modelInfo"][0]["shortName"] == DEFAULT_MODEL


async def test_metrics_count_requests_passages_and_tokens(client: httpx.AsyncClient) -> None:
    await client.post("/v1/ranking", json=body())
    await client.post("/v1/ranking", json=body(model="nvidia/gone"))
    answer = await client.get("/v1/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert 'nim_requests_total{route="/v1/ranking",status="200"} 1.0' in lines
    assert 'nim_requests_total{route="/v1/ranking",status="404"} 1.0' in lines
    assert "nim_passages_total 3.0" in lines
    assert "nim_queue_seconds_count 1.0" in lines
    assert "nim_inference_seconds_count 1.0" in lines


async def test_a_model_may_have_a_limit_of_its_own(model: RelevanceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(Engine(lambda: model), {DEFAULT_MODEL: 512})
    async with connect(service) as client:
        answer = await client.post("/v1/ranking", json=body(passages=[{"text": "word " * 600}]))
        assert "token size 512" in answer.json()["message"]


async def test_the_behaviour_can_be_switched_while_it_runs(client: httpx.AsyncClient) -> None:
    assert (await client.put("/stand-in/behaviour", json={"name": "nim-2"})).json()["name"] == "nim-2"
    assert (await client.post("/v1/ranking", json=body(top_k=1))).status_code == 400
    refused = await client.put("/stand-in/behaviour", json={"name": "nim-3"})
    assert (refused.status_code, "choose nim-1.9" in refused.json()["message"]) == (422, True)


async def test_a_method_that_a_route_does_not_have_is_refused_with_those_it_has(client: httpx.AsyncClient) -> None:
    answer = await client.post("/stand-in/behaviour", json={})
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PUT")


def test_the_longest_text_fits_into_a_body() -> None:
    assert len(json.dumps(body(passages=[{"text": ""}]))) + 2 * MAX_CHARACTERS < MAX_BODY_BYTES


async def test_a_body_that_says_it_is_too_large_is_refused_unread(client: httpx.AsyncClient) -> None:
    async def content() -> AsyncIterator[bytes]:
        raise AssertionError("read")
        yield b""

    headers = JSON | {"content-length": str(MAX_BODY_BYTES + 1)}
    assert (await client.post("/v1/ranking", content=content(), headers=headers)).status_code == 413


@pytest.mark.parametrize("many", [b"1,", b"[],", b"{},", b'"",', b'"\\"",'])
async def test_a_body_of_too_many_values_is_not_parsed(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, many: bytes
) -> None:
    monkeypatch.setattr("nvrerank_helpers.nim_standin.server.schemas.MAX_VALUES", 500)
    answer = await client.post("/v1/ranking", content=b"[" + many * 500 + b"1]", headers=JSON)
    assert (answer.status_code, "more than 500 values" in answer.json()["message"]) == (422, True)


async def test_commas_and_brackets_in_a_text_are_no_values(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nvrerank_helpers.nim_standin.server.schemas.MAX_VALUES", 20)
    passages = [{"text": '{"a": [1, 2], "b": "\\"}, ' * 20}]
    assert (await client.post("/v1/ranking", json=body(passages=passages))).status_code == 200


async def test_a_refusal_lists_the_first_problems_alone(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/ranking", json=body(passages=[{}] * 100))
    assert len(answer.json()["detail"]) == 20
    assert answer.json()["message"].endswith("(and 99 more)")


async def test_a_refusal_repeats_the_beginning_of_a_long_name(model: RelevanceModel) -> None:
    async with connect(service_of(model, "nim-2")) as client:
        answer = await client.post("/v1/ranking", json=body(**{"k" * 1000: 1}))
    assert answer.json()["message"].startswith("k" * 64 + ": unknown field")
    assert answer.json()["detail"][0]["loc"] == ["k" * 64]


async def test_a_model_may_take_fewer_passages(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, DEFAULT_MODEL, replace(CATALOG[DEFAULT_MODEL], passage_limit=2))
    answer = await client.post("/v1/ranking", json=body())
    assert (answer.status_code, "takes at most 2, not 3" in answer.json()["message"]) == (422, True)


async def test_a_score_that_is_no_number_is_the_services_fault(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def score(*_: Any) -> None:
        raise ScoreError(2)

    monkeypatch.setattr(Engine, "score", score)
    answer = await client.post("/v1/ranking", json=body())
    assert (answer.status_code, "NaN" in answer.json()["message"]) == (500, True)


async def through_hangups(app: Any, receive: Any, seconds: float = 10) -> list[Any]:
    sent: list[Any] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await Hangups(app, seconds)({"type": "http"}, receive, send)
    return sent


async def left() -> dict[str, Any]:
    return {"type": "http.disconnect"}


async def test_a_client_that_left_is_no_error() -> None:
    async def app(*_: Any) -> None:
        raise ClientLeftError

    assert await through_hangups(app, left) == []


async def test_a_client_that_leaves_within_its_body_is_no_error(model: RelevanceModel) -> None:
    app = create_app(service_of(model))
    scope = {"type": "http", "method": "POST", "path": "/v1/ranking", "query_string": b"", "http_version": "1.1"}
    await app(scope | {"headers": [(b"content-type", b"application/json")]}, left, None)


async def test_the_end_of_the_service_is_no_client_that_left() -> None:
    async def app(*_: Any) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await through_hangups(app, left)


async def never() -> dict[str, Any]:
    return await asyncio.Event().wait()  # type: ignore[return-value]


async def test_a_body_that_does_not_come_is_given_up_and_its_connection_closed() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    start, content = await through_hangups(app, never, seconds=0)
    assert (start["status"], (b"connection", b"close") in start["headers"]) == (408, True)
    assert b"did not come within 0 seconds" in content["body"]


async def test_once_the_body_is_there_there_is_no_hurry() -> None:
    messages = iter([{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}])
    received: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        received.extend([await receive(), await receive()])

    async def receive() -> Any:
        message = next(messages)
        if message["type"] == "http.disconnect":
            await asyncio.sleep(0)  # here a time that is over would be noticed
        return message

    await through_hangups(app, receive, seconds=0)
    assert [message["type"] for message in received] == ["http.request", "http.disconnect"]
