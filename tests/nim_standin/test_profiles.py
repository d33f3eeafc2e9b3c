"""How the imitated services differ, each difference through the routes."""

from typing import Any

import httpx
import pytest

from nvrerank_helpers.connector import DEFAULT_MODEL, build_catalog_path
from nvrerank_helpers.nim_standin.profiles import PROFILES, Reason, RefusalError
from nvrerank_helpers.nim_standin.scoring.engine import Engine, QueueFullError
from nvrerank_helpers.nim_standin.server.catalog_gateway import CatalogGateway
from nvrerank_helpers.nim_standin.server.service import StandInService

KEY = {"authorization": "Bearer nvapi-example"}
RANKING = "/v1/ranking"
HOSTED = build_catalog_path(DEFAULT_MODEL)
LONG = {"passages": [{"text": "word " * 600}]}
NOT_FOUND = "404 page not found\n"


@pytest.fixture
def imitate(connect: Any) -> Any:
    def imitate(name: str, **options: Any) -> Any:
        return connect(name, models={DEFAULT_MODEL: 512}, **options)

    return imitate


def body(**changes: Any) -> dict[str, Any]:
    return {"model": DEFAULT_MODEL, "query": {"text": "sort"}, "passages": [{"text": "Sort a list."}], **changes}


async def ask(client: httpx.AsyncClient, path: str = HOSTED, fault: str = "", **changes: Any) -> httpx.Response:
    headers = KEY | ({"X-Stand-In-Fault": fault} if fault else {})
    return await client.post(path, json=body(**changes), headers=headers)


@pytest.mark.parametrize(
    ("name", "path", "status", "field", "length"),
    [
        ("nim-1.9", RANKING, 400, "message", 1024),
        ("nim-1.10", RANKING, 422, "message", 604),
        ("nim-2", RANKING, 400, "message", 604),
        ("catalog", HOSTED, 400, "error", 604),
    ],
)
async def test_each_version_refuses_a_text_that_is_too_long_in_its_own_words(
    imitate: Any, name: str, path: str, status: int, field: str, length: int
) -> None:
    async with imitate(name) as client:
        refused = await ask(client, path, truncate="NONE", **LONG)
    assert refused.status_code == status
    assert refused.json()[field] == f"Input length {length} exceeds maximum allowed token size 512"


@pytest.mark.parametrize("name", ["nim-1.9", "nim-1.10"])
async def test_the_1_line_ignores_unknown_fields(imitate: Any, name: str) -> None:
    async with imitate(name) as client:
        assert (await ask(client, RANKING, top_k=1)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": 1}, "top_k: unknown field, expected one of model, query, passages, truncate"),
        ({"query": {"text": "q", "lang": "en"}}, "query.lang: unknown field, expected one of text"),
        ({"passages": [{"text": "t", "id": 1}]}, "passages.0.id: unknown field, expected one of text, image"),
    ],
)
async def test_the_2_line_refuses_and_names_them(imitate: Any, changes: dict[str, Any], message: str) -> None:
    async with imitate("nim-2") as client:
        refused = await ask(client, RANKING, **changes)
    assert (refused.status_code, refused.json()["message"]) == (400, message)


async def test_the_2_line_answers_503_at_once_when_the_queue_is_full(
    imitate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = []

    async def refuse(_: Engine, job: Any, queue_limit: int | None = None) -> None:
        limits.append(queue_limit)
        raise QueueFullError("1,024 requests wait")

    async with imitate("nim-2") as client:
        monkeypatch.setattr(Engine, "score", refuse)
        assert (await ask(client, RANKING)).status_code == 503
    assert limits == [1024]


@pytest.mark.parametrize(("name", "words"), [("nim-2", "must not be empty"), ("nim-1.10", "passages.0.image")])
async def test_only_the_2_line_refuses_an_empty_text_beside_an_image(imitate: Any, name: str, words: str) -> None:
    async with imitate(name) as client:
        assert words in (await ask(client, RANKING, passages=[{"text": "", "image": "data:,"}])).json()["message"]


async def test_the_catalog_answers_with_a_key_and_refuses_without(imitate: Any) -> None:
    async with imitate("catalog") as client:
        assert (await ask(client)).json()["rankings"][0]["index"] == 0
        refused = await client.post(HOSTED, json=body())
    assert (refused.status_code, refused.content) == (401, b"")
    assert "invalid_token" in refused.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (build_catalog_path("nvidia/llama-3.2-nv-rerankqa-1b-v2"), 410, "end of life on 2026-05-18T00:00:00Z"),
        (build_catalog_path("nvidia/llama-nemotron-rerank-500m-v2"), 404, "Not found for account"),
        (build_catalog_path("nvidia/never-was"), 404, NOT_FOUND),
        ("/v1/retrieval/nvidia/nv-rerankqa-mistral-4b-v3/reranking", 404, NOT_FOUND),
        (RANKING, 404, NOT_FOUND),
        ("/v1/health/ready", 404, NOT_FOUND),
        ("/v1/nothing", 404, NOT_FOUND),
    ],
)
async def test_the_catalog_has_one_path_per_live_model(imitate: Any, path: str, status: int, words: str) -> None:
    async with imitate("catalog") as client:
        refused = await ask(client, path)
    assert refused.status_code == status
    assert words in refused.text


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/health/live", "/v1/health/ready", "/v1/metadata", "/v1/metrics"),
        *(RANKING, f"{RANKING}/", build_catalog_path("nvidia/never-was"), f"{HOSTED}/"),
    ],
)
async def test_a_path_that_the_catalog_does_not_have_is_missing_for_every_method(imitate: Any, path: str) -> None:
    async with imitate("catalog") as client:
        assert (await client.get(path)).text == NOT_FOUND


async def test_the_catalog_lists_no_rerankers(imitate: Any) -> None:
    async with imitate("catalog") as client:
        assert DEFAULT_MODEL not in (await client.get("/v1/models")).text


async def test_the_catalog_counts_requests(imitate: Any) -> None:
    async with imitate("catalog", gateway=CatalogGateway(per_minute=1, clock=lambda: 0.0)) as client:
        assert [(await ask(client)).status_code for _ in range(2)] == [200, 429]


async def test_the_catalog_cuts_where_the_nim_refuses(imitate: Any) -> None:
    async with imitate("catalog") as client:
        assert (await ask(client, **LONG)).json()["usage"]["total_tokens"] == 512
    async with imitate("nim-1.10") as client:
        assert (await ask(client, RANKING, **LONG)).status_code == 422


async def test_the_catalog_defers_a_response_and_polling_needs_the_key_but_is_not_counted(imitate: Any) -> None:
    async with imitate("catalog", gateway=CatalogGateway(per_minute=1, clock=lambda: 0.0)) as client:
        deferred = await ask(client, fault="later=0")
        assert (deferred.status_code, deferred.content) == (202, b"")
        path = f"/v2/nvcf/pexec/status/{deferred.headers['nvcf-reqid']}"
        assert (await client.get(path, headers={"authorization": "Bearer nvapi-revoked"})).status_code == 401
        assert (await client.get(path, headers=KEY)).json()["rankings"][0]["index"] == 0
        assert (await client.get(path, headers=KEY)).status_code == 404


@pytest.mark.parametrize("reason", Reason)
@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_renders_every_reason(name: str, reason: Reason) -> None:
    assert PROFILES[name].render(RefusalError(reason, "why")).status >= 400


@pytest.mark.parametrize(
    ("name", "path", "status", "expected"),
    [
        ("catalog", HOSTED, 429, {"status": 429, "title": "Too Many Requests"}),
        ("catalog", HOSTED, 410, {"type": "about:blank", "status": 410, "title": "Gone"}),
        ("catalog", HOSTED, 500, {"object": "error"}),
        ("nim-1.10", RANKING, 429, {"object": "error"}),
    ],
)
async def test_an_injected_status_has_the_body_of_the_service(
    imitate: Any, name: str, path: str, status: int, expected: dict[str, Any]
) -> None:
    async with imitate(name) as client:
        refused = await ask(client, path, fault=f"status={status}")
    assert refused.status_code == status
    assert expected.items() <= refused.json().items()


async def test_an_injected_401_of_the_catalog_has_a_header_instead_of_a_body(imitate: Any) -> None:
    async with imitate("catalog") as client:
        refused = await ask(client, fault="status=401")
    assert (refused.content, "invalid_token" in refused.headers["www-authenticate"]) == (b"", True)


@pytest.mark.parametrize(("name", "limit"), [("nim-1.9", 8192), ("nim-1.10", 10_240), ("nim-2", 8192)])
def test_the_limit_of_a_model_depends_on_the_line(name: str, limit: int) -> None:
    assert StandInService(Engine(lambda: None), profile=PROFILES[name]).token_limit(DEFAULT_MODEL) == limit
