"""In what the imitated services differ, each difference through the routes."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import pytest

from nvrerank_helpers.connector import DEFAULT_MODEL, hosted_path
from nvrerank_helpers.nim_standin.app import create_app
from nvrerank_helpers.nim_standin.profiles import BEHAVIOURS, Reason, RefusalError
from nvrerank_helpers.nim_standin.scoring.engine import Engine, QueueFullError
from nvrerank_helpers.nim_standin.scoring.late_interaction import RelevanceModel
from nvrerank_helpers.nim_standin.server.catalog_gateway import Gateway
from nvrerank_helpers.nim_standin.server.service import Service

KEY = {"authorization": "Bearer nvapi-example"}
HOSTED = hosted_path(DEFAULT_MODEL)
TOO_LONG = {"passages": [{"text": "word " * 600}], "truncate": "NONE"}

Imitated = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture(scope="module")
def model() -> RelevanceModel:
    shared = RelevanceModel.load(threads=1)
    shared.close = lambda: None  # type: ignore[method-assign] # every service closes its model: this one stays
    return shared


@pytest.fixture
def imitated(model: RelevanceModel, monkeypatch: pytest.MonkeyPatch) -> Imitated:

    @asynccontextmanager
    async def imitate(name: str, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        service = Service(Engine(lambda: model), {DEFAULT_MODEL: 512}, BEHAVIOURS[name], **options)
        app = create_app(service)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://standin", headers=KEY) as client,
        ):
            service.engine.loaded.result(timeout=10)
            yield client

    return imitate


def body(**changes: Any) -> dict[str, Any]:
    return {"model": DEFAULT_MODEL, "query": {"text": "sort"}, "passages": [{"text": "Sort a list."}], **changes}


@pytest.mark.parametrize(
    ("name", "path", "status", "answer"),
    [
        ("nim-1.9", "/v1/ranking", 400, {"message": "Input length 1024 exceeds maximum allowed token size 512"}),
        ("nim-1.10", "/v1/ranking", 422, {"message": "Input length 604 exceeds maximum allowed token size 512"}),
        ("nim-2", "/v1/ranking", 400, {"message": "Input length 604 exceeds maximum allowed token size 512"}),
        ("catalog", HOSTED, 400, {"error": "Input length 604 exceeds maximum allowed token size 512"}),
    ],
)
async def test_a_text_that_is_too_long_is_refused_in_the_words_of_the_version(
    imitated: Imitated, name: str, path: str, status: int, answer: dict[str, str]
) -> None:
    async with imitated(name) as client:
        refused = await client.post(path, json=body(**TOO_LONG))
    assert refused.status_code == status
    assert answer.items() <= refused.json().items()


@pytest.mark.parametrize("name", ["nim-1.9", "nim-1.10"])
async def test_the_1_line_ignores_fields_that_it_does_not_know(imitated: Imitated, name: str) -> None:
    async with imitated(name) as client:
        assert (await client.post("/v1/ranking", json=body(top_k=1))).status_code == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": 1}, "top_k: unknown field, expected one of model, query, passages, truncate"),
        ({"query": {"text": "q", "lang": "en"}}, "query.lang: unknown field, expected one of text"),
        ({"passages": [{"text": "t", "id": 1}]}, "passages.0.id: unknown field, expected one of text, image"),
    ],
)
async def test_the_2_line_refuses_and_names_them(imitated: Imitated, changes: dict[str, Any], message: str) -> None:
    async with imitated("nim-2") as client:
        refused = await client.post("/v1/ranking", json=body(**changes))
    assert (refused.status_code, refused.json()["message"]) == (400, message)


async def test_the_2_line_answers_503_at_once_when_the_queue_is_full(
    imitated: Imitated, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    async def full(_: Engine, job: Any, queue_limit: int | None = None) -> None:
        limits.append(queue_limit)
        raise QueueFullError("1,024 requests wait")

    async with imitated("nim-2") as client:
        monkeypatch.setattr(Engine, "score", full)
        assert (await client.post("/v1/ranking", json=body())).status_code == 503
    assert limits == [1024]


@pytest.mark.parametrize(("name", "words"), [("nim-2", "must not be empty"), ("nim-1.10", "passages.0.image")])
async def test_only_the_2_line_refuses_an_empty_text_beside_an_image(imitated: Imitated, name: str, words: str) -> None:
    async with imitated(name) as client:
        refused = await client.post("/v1/ranking", json=body(passages=[{"text": "", "image": "data:,"}]))
    assert words in refused.json()["message"]


@pytest.mark.parametrize("authorization", [None, "Bearer sk-of-somebody-else"])
async def test_the_catalog_wants_a_key_of_its_form(imitated: Imitated, authorization: str | None) -> None:
    async with imitated("catalog") as client:
        del client.headers["authorization"]
        headers = {"authorization": authorization} if authorization else {}
        refused = await client.post(HOSTED, json=body(), headers=headers)
    assert (refused.status_code, refused.content) == (401, b"")
    assert "invalid_token" in refused.headers["www-authenticate"]


async def test_the_catalog_answers_a_good_key(imitated: Imitated) -> None:
    async with imitated("catalog") as client:
        assert (await client.post(HOSTED, json=body())).json()["rankings"][0]["index"] == 0


@pytest.mark.parametrize(
    ("model_path", "status", "words"),
    [
        (hosted_path("nvidia/llama-3.2-nv-rerankqa-1b-v2"), 410, "2026-05-18T00:00:00Z"),
        (hosted_path("nvidia/llama-nemotron-rerank-500m-v2"), 404, "Not found for account"),
        (hosted_path("nvidia/never-was"), 404, "404 page not found\n"),
        ("/v1/ranking", 404, "404 page not found\n"),
        ("/v1/health/ready", 404, "404 page not found\n"),
        ("/v1/nothing", 404, "404 page not found\n"),
    ],
)
async def test_the_catalog_has_one_path_a_live_model(
    imitated: Imitated, model_path: str, status: int, words: str
) -> None:
    async with imitated("catalog") as client:
        refused = await client.post(model_path, json=body())
    assert refused.status_code == status
    assert words in refused.text


@pytest.mark.parametrize("path", ["/v1/health/live", "/v1/health/ready", "/v1/metadata", "/v1/metrics"])
async def test_the_catalog_has_no_routes_of_a_nim(imitated: Imitated, path: str) -> None:
    async with imitated("catalog") as client:
        assert (await client.get(path)).text == "404 page not found\n"


async def test_the_catalog_lists_no_rerankers(imitated: Imitated) -> None:
    async with imitated("catalog") as client:
        assert DEFAULT_MODEL not in (await client.get("/v1/models")).text


async def test_the_catalog_counts_requests(imitated: Imitated) -> None:
    async with imitated("catalog", gateway=Gateway(per_minute=1, clock=lambda: 0.0)) as client:
        assert (await client.post(HOSTED, json=body())).status_code == 200
        assert (await client.post(HOSTED, json=body())).status_code == 429


async def test_the_catalog_cuts_where_the_nim_refuses(imitated: Imitated) -> None:
    long = {"passages": TOO_LONG["passages"]}
    async with imitated("catalog") as client:
        assert (await client.post(HOSTED, json=body(**long))).json()["usage"]["total_tokens"] == 512
    async with imitated("nim-1.10") as client:
        assert (await client.post("/v1/ranking", json=body(**long))).status_code == 422


async def test_a_promise_of_the_catalog_is_kept(imitated: Imitated) -> None:
    async with imitated("catalog") as client:
        promised = await client.post(HOSTED, json=body(), headers={"X-Stand-In-Fault": "later=0"})
        assert (promised.status_code, promised.content) == (202, b"")
        kept = await client.get(f"/v2/nvcf/pexec/status/{promised.headers['nvcf-reqid']}")
    assert kept.json()["rankings"][0]["index"] == 0


async def test_the_catalog_wants_the_key_for_a_promised_answer_and_does_not_count_it(imitated: Imitated) -> None:
    path = "/v2/nvcf/pexec/status/unknown"
    async with imitated("catalog", gateway=Gateway(per_minute=1, clock=lambda: 0.0)) as client:
        assert [(await client.get(path)).status_code for _ in range(3)] == [404] * 3
        assert (await client.get(path, headers={"authorization": "Bearer nvapi-revoked"})).status_code == 401


@pytest.mark.parametrize("path", ["/v1/ranking", "/v1/ranking/", hosted_path("nvidia/never-was"), f"{HOSTED}/"])
async def test_a_path_that_the_catalog_does_not_have_is_one_for_every_method(imitated: Imitated, path: str) -> None:
    async with imitated("catalog") as client:
        assert (await client.get(path)).text == "404 page not found\n"


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_every_behaviour_has_words_for_every_reason(name: str, reason: Reason) -> None:
    assert BEHAVIOURS[name].answer(RefusalError(reason, "why")).status >= 400


@pytest.mark.parametrize(
    ("name", "path", "status", "expected"),
    [
        ("catalog", HOSTED, 429, {"status": 429, "title": "Too Many Requests"}),
        ("catalog", HOSTED, 410, {"type": "about:blank", "status": 410, "title": "Gone"}),
        ("catalog", HOSTED, 500, {"object": "error"}),
        ("nim-1.10", "/v1/ranking", 429, {"object": "error"}),
    ],
)
async def test_a_status_on_purpose_has_the_body_of_the_service(
    imitated: Imitated, name: str, path: str, status: int, expected: dict[str, Any]
) -> None:
    async with imitated(name) as client:
        refused = await client.post(path, json=body(), headers={"X-Stand-In-Fault": f"status={status}"})
    assert refused.status_code == status
    assert expected.items() <= refused.json().items()


async def test_a_missing_key_on_purpose_has_no_body_but_the_header(imitated: Imitated) -> None:
    async with imitated("catalog") as client:
        refused = await client.post(HOSTED, json=body(), headers={"X-Stand-In-Fault": "status=401"})
    assert (refused.content, "invalid_token" in refused.headers["www-authenticate"]) == (b"", True)


@pytest.mark.parametrize(("name", "limit"), [("nim-1.9", 8192), ("nim-1.10", 10_240), ("nim-2", 8192)])
def test_the_limit_of_a_model_is_that_of_the_line(name: str, limit: int) -> None:
    assert Service(Engine(lambda: None), behaviour=BEHAVIOURS[name]).token_limit(DEFAULT_MODEL) == limit
