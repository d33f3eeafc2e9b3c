"""The gateway of the catalog: keys, accounts, the rate limit, and the paths of served models."""

import pytest

from nvrerank_helpers.nim_standin.profiles import API_CATALOG, Reason, RefusalError
from nvrerank_helpers.nim_standin.server.catalog_gateway import CatalogGateway, check_hosted_path, find_hosted_models

KEY = "Bearer nvapi-example"


def refusal(gateway: CatalogGateway, authorization: str | None) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        gateway.admit(authorization)
    return caught.value


@pytest.mark.parametrize(
    "authorization", [None, "", "nvapi-example", "Bearer sk-example", "Basic bnZhcGk6", "Bearer nvapi-"]
)
def test_a_key_that_is_missing_or_malformed_is_refused(authorization: str | None) -> None:
    assert refusal(CatalogGateway(), authorization).reason == Reason.NO_KEY


@pytest.mark.parametrize(
    ("key", "status"),
    [("nvapi-revoked", 401), ("nvapi-no-credit", 402), ("nvapi-forbidden", 403), ("nvapi-other-account", 404)],
)
def test_a_lesson_key_shows_what_only_some_accounts_meet(key: str, status: int) -> None:
    assert API_CATALOG.render(refusal(CatalogGateway(), f"Bearer {key}")).status == status


def test_a_minute_later_requests_are_admitted_again() -> None:
    times = iter((0.0, 59.9, 60.0))
    gateway = CatalogGateway(per_minute=1, clock=lambda: next(times))
    gateway.admit(KEY)
    assert refusal(gateway, KEY).reason == Reason.TOO_MANY
    gateway.admit(KEY)


def test_every_key_has_its_own_minute() -> None:
    gateway = CatalogGateway(per_minute=1, clock=lambda: 0.0)
    gateway.admit(KEY)
    gateway.admit("Bearer nvapi-another")


def test_a_key_can_be_checked_without_counting() -> None:
    gateway = CatalogGateway(per_minute=1, clock=lambda: 0.0)
    assert gateway.check(KEY) == "nvapi-example"
    gateway.admit(KEY)
    gateway.check(KEY)
    with pytest.raises(RefusalError):
        gateway.check("Bearer nvapi-revoked")


def test_a_key_is_forgotten_when_its_minute_has_passed() -> None:
    times = iter((0.0, 1.0, 59.0, 60.5))
    gateway = CatalogGateway(clock=lambda: next(times))
    for key in ("old", "used-again", "used-again", "new"):
        gateway.admit(f"Bearer nvapi-{key}")
    assert len(gateway._times) == 2


def test_the_number_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvrerank_helpers.nim_standin.server.catalog_gateway.MAX_KEYS", 2)
    gateway = CatalogGateway(per_minute=1, clock=lambda: 0.0)
    for key in "abc":
        gateway.admit(f"Bearer nvapi-{key}")
    assert refusal(gateway, "Bearer nvapi-c").reason == Reason.TOO_MANY
    gateway.admit("Bearer nvapi-a")
    assert len(gateway._times) == 2


def test_the_gateway_keeps_no_key() -> None:
    gateway = CatalogGateway()
    gateway.admit(KEY)
    assert "nvapi-example" not in repr(vars(gateway))


def test_a_model_that_is_served_answers_even_if_the_catalog_retired_it() -> None:
    path = "/v1/retrieval/nvidia/reranking"
    assert find_hosted_models(path, ["nv-rerank-qa-mistral-4b:1"]) == ["nv-rerank-qa-mistral-4b:1"]
    check_hosted_path(path, ["nv-rerank-qa-mistral-4b:1"])
