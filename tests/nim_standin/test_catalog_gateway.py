"""What stands before the catalog's models: keys, accounts, ends of life, the rate limit."""

import pytest

from nvrerank_helpers.nim_standin.profiles import API_CATALOG, Reason, RefusalError
from nvrerank_helpers.nim_standin.server.catalog_gateway import Gateway, check_hosted, hosted_models

KEY = "Bearer nvapi-example"


def refusal(gateway: Gateway, authorization: str | None) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        gateway.admit(authorization)
    return caught.value


@pytest.mark.parametrize(
    "authorization", [None, "", "nvapi-example", "Bearer sk-example", "Basic bnZhcGk6", "Bearer nvapi-"]
)
def test_a_key_that_is_missing_or_malformed_is_a_401_with_only_a_header(authorization: str | None) -> None:
    answer = API_CATALOG.answer(refusal(Gateway(), authorization))
    assert (answer.status, answer.body) == (401, None)
    assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


@pytest.mark.parametrize(
    ("key", "status"),
    [("nvapi-revoked", 401), ("nvapi-no-credit", 402), ("nvapi-forbidden", 403), ("nvapi-other-account", 404)],
)
def test_a_lesson_key_shows_what_only_some_accounts_meet(key: str, status: int) -> None:
    assert API_CATALOG.answer(refusal(Gateway(), f"Bearer {key}")).status == status


def test_the_request_after_the_last_of_a_minute_is_a_429_without_detail() -> None:
    gateway = Gateway(per_minute=2, clock=lambda: 0.0)
    gateway.admit(KEY)
    gateway.admit(KEY)
    answer = API_CATALOG.answer(refusal(gateway, KEY))
    assert (answer.status, answer.body) == (429, {"status": 429, "title": "Too Many Requests"})


def test_a_minute_later_requests_are_admitted_again() -> None:
    times = iter((0.0, 59.9, 60.0))
    gateway = Gateway(per_minute=1, clock=lambda: next(times))
    gateway.admit(KEY)
    assert refusal(gateway, KEY).reason == Reason.TOO_MANY
    gateway.admit(KEY)


def test_every_key_has_its_own_minute() -> None:
    gateway = Gateway(per_minute=1, clock=lambda: 0.0)
    gateway.admit(KEY)
    gateway.admit("Bearer nvapi-another")


def test_a_key_can_be_checked_without_counting() -> None:
    gateway = Gateway(per_minute=1, clock=lambda: 0.0)
    assert gateway.check(KEY) == "nvapi-example"
    gateway.admit(KEY)
    gateway.check(KEY)
    with pytest.raises(RefusalError):
        gateway.check("Bearer nvapi-revoked")


def test_a_key_is_forgotten_when_its_minute_has_passed() -> None:
    times = iter((0.0, 1.0, 59.0, 60.5))
    gateway = Gateway(clock=lambda: next(times))
    for key in ("old", "used-again", "used-again", "new"):
        gateway.admit(f"Bearer nvapi-{key}")
    assert len(gateway._times) == 2


def test_the_number_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvrerank_helpers.nim_standin.server.catalog_gateway.MOST_KEYS", 2)
    gateway = Gateway(per_minute=1, clock=lambda: 0.0)
    for key in "abc":
        gateway.admit(f"Bearer nvapi-{key}")
    assert refusal(gateway, "Bearer nvapi-c").reason == Reason.TOO_MANY
    gateway.admit("Bearer nvapi-a")
    assert len(gateway._times) == 2


def test_the_gateway_keeps_no_key() -> None:
    gateway = Gateway()
    gateway.admit(KEY)
    assert "nvapi-example" not in repr(vars(gateway))


def test_a_retired_model_is_gone_since_its_date() -> None:
    with pytest.raises(RefusalError, match="end of life on 2026-05-18T00:00:00Z") as caught:
        check_hosted("/v1/retrieval/nvidia/llama-3_2-nv-rerankqa-1b-v2/reranking", [])
    answer = API_CATALOG.answer(caught.value)
    assert (answer.status, answer.body["title"], answer.body["type"]) == (410, "Gone", "about:blank")


def test_a_model_that_is_not_enabled_is_not_found_for_the_account() -> None:
    with pytest.raises(RefusalError, match="Not found for account") as caught:
        check_hosted("/v1/retrieval/nvidia/llama-nemotron-rerank-500m-v2/reranking", [])
    assert API_CATALOG.answer(caught.value).status == 404


@pytest.mark.parametrize(
    "path", ["/v1/retrieval/me/none/reranking", "/v1/retrieval/nvidia/nv-rerankqa-mistral-4b-v3/reranking"]
)
def test_a_path_without_a_model_is_19_bytes_of_text(path: str) -> None:
    with pytest.raises(RefusalError) as caught:
        check_hosted(path, [])
    assert API_CATALOG.answer(caught.value).body == "404 page not found\n"


def test_a_model_that_is_served_answers_even_if_the_catalog_retired_it() -> None:
    path = "/v1/retrieval/nvidia/reranking"
    assert hosted_models(path, ["nv-rerank-qa-mistral-4b:1"]) == ["nv-rerank-qa-mistral-4b:1"]
    check_hosted(path, ["nv-rerank-qa-mistral-4b:1"])
