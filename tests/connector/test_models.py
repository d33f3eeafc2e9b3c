import pytest
from connector.endpoints import is_hosted, remember_model, resolve_endpoint
from connector.errors import ModelRetired
from connector.models import CATALOG, DEFAULT_MODEL, HostedModel, check_status

VL_URL = "https://ai.api.nvidia.com/v1/retrieval/nvidia/llama-nemotron-rerank-vl-1b-v2/reranking"


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("localhost", "http://localhost/v1/ranking"),
        ("localhost:1976", "http://localhost:1976/v1/ranking"),
        ("http://localhost:1976", "http://localhost:1976/v1/ranking"),
        ("http://localhost:1976/", "http://localhost:1976/v1/ranking"),
        ("http://localhost:1976/v1", "http://localhost:1976/v1/ranking"),
        ("http://localhost:1976/v1/", "http://localhost:1976/v1/ranking"),
        ("http://localhost:1976//v1//", "http://localhost:1976/v1/ranking"),
        ("http://localhost:1976/v1/ranking", "http://localhost:1976/v1/ranking"),
        ("http://localhost:1976/v1/models", "http://localhost:1976/v1/ranking"),
        ("https://gateway.example/team/nim-v1", "https://gateway.example/team/nim-v1/v1/ranking"),
        ("https://gateway.example/team/v1/", "https://gateway.example/team/v1/ranking"),
        ("http://[::1]:1976/v1", "http://[::1]:1976/v1/ranking"),
        ("http://host/v1/retrieval/a/b/reranking", "http://host/v1/retrieval/a/b/reranking"),
        (None, VL_URL),
        ("https://integrate.api.nvidia.com/v1", VL_URL),
        ("https://integrate.api.nvidia.com/v1/", VL_URL),
        ("ai.api.nvidia.com", VL_URL),
        (
            "http://ai.api.nvidia.com/v1/retrieval/nvidia/x/reranking",
            "https://ai.api.nvidia.com/v1/retrieval/nvidia/x/reranking",
        ),
    ],
)
def test_an_address_leads_to_the_url_to_post_to(address, url):
    assert resolve_endpoint(address, None, {}).ranking_url == url


def test_the_catalog_has_one_url_a_model_with_underscores_for_dots():
    url = resolve_endpoint(None, "nvidia/llama-3.2-nv-rerankqa-1b-v2", {}).ranking_url
    assert url == "https://ai.api.nvidia.com/v1/retrieval/nvidia/llama-3_2-nv-rerankqa-1b-v2/reranking"


def test_models_and_health_of_a_nim_are_asked_beside_its_ranking_route():
    assert resolve_endpoint("gateway/team/v1/ranking", None, {}).service_url == "http://gateway/team/v1"


def test_only_the_hosts_of_nvidia_are_hosted():
    assert is_hosted("https://AI.api.nvidia.com")
    assert not is_hosted("https://ai.api.nvidia.com.evil.example/v1")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ftp://host", "Use http"),
        ("http://", "not an address"),
        ("http://host:0", "not an address"),
        ("http://host:port", "not an address"),
        ("http://host:99999", "not an address"),
        ("two words", "not an address"),
        ("http://[::1", "not an address"),
        ("http://me:secret@host/v1", "Pass a key as api_key"),
        ("http://host/v1?key=1", "query or fragment"),
    ],
)
def test_a_malformed_address_is_refused_with_the_reason(address, reason):
    with pytest.raises(ValueError, match=reason):
        resolve_endpoint(address, None, {})


@pytest.mark.parametrize("ending", ["", "/", "/v1/"])
def test_a_local_service_may_play_the_catalog(ending):
    found = resolve_endpoint(None, None, {"NVRERANK_CATALOG_URL": f"http://127.0.0.1:5000{ending}"})
    assert found.ranking_url == f"http://127.0.0.1:5000/v1/retrieval/{DEFAULT_MODEL}/reranking"
    assert not found.hosted


def test_no_other_host_may_play_the_catalog():
    with pytest.raises(ValueError, match="only a service on this machine"):
        resolve_endpoint(None, None, {"NVRERANK_CATALOG_URL": "http://elsewhere.example"})


def test_the_default_model_is_known_to_be_live():
    assert CATALOG[DEFAULT_MODEL].status == "live"


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("nvidia/llama-3.2-nv-rerankqa-1b-v2", f"since 2026-05-18.*Use {DEFAULT_MODEL}"),
        ("nvidia/nv-rerankqa-mistral-4b-v3", f"no longer serves.*Use {DEFAULT_MODEL}"),
    ],
)
def test_a_retired_model_is_refused_with_date_and_replacement(model, words):
    with pytest.raises(ModelRetired, match=f"(?s){words}"):
        check_status(model)


def test_a_model_that_is_not_in_the_table_gets_a_url_by_its_name_and_a_warning():
    with pytest.warns(UserWarning, match="retrieval/me/new-1_5/reranking follows from its name"):
        check_status("me/new-1.5")
    assert resolve_endpoint(None, "me/new-1.5", {}).ranking_url.endswith("/v1/retrieval/me/new-1_5/reranking")


def test_the_one_model_without_its_name_in_the_url_has_its_own(monkeypatch):
    url = "https://ai.api.nvidia.com/v1/retrieval/nvidia/reranking"
    assert resolve_endpoint(None, "nv-rerank-qa-mistral-4b:1", {}).ranking_url == url


def test_an_entry_of_the_table_can_be_added_in_one_line(monkeypatch):
    monkeypatch.setitem(CATALOG, "me/mine", HostedModel("me/mine", "live", address="https://ai.api.nvidia.com/v1/mine"))
    check_status("me/mine")
    assert resolve_endpoint(None, "me/mine", {}).ranking_url == "https://ai.api.nvidia.com/v1/mine"
    assert resolve_endpoint(None, "me/mine", {"NVRERANK_CATALOG_URL": "http://localhost:1"}).ranking_url == (
        "http://localhost:1/v1/mine"
    )


def test_an_address_that_ends_in_rerank_speaks_the_other_dialect():
    found = resolve_endpoint("https://inference-api.nvidia.com/v1/rerank/", None, {})
    assert (found.ranking_url, found.dialect) == ("https://inference-api.nvidia.com/v1/rerank", "rerank")
    assert not found.hosted


def test_a_remembered_model_is_used_for_its_address(monkeypatch):
    monkeypatch.setattr("connector.endpoints._models", {})
    for address in ("http://nim.example:8000/v1", None):
        assert resolve_endpoint(address, None, {}).model == (DEFAULT_MODEL if address is None else "")
        remember_model(resolve_endpoint(address, None, {}), "chosen/model")
        assert resolve_endpoint(address, None, {}).model == "chosen/model"
        assert resolve_endpoint(address, "named/model", {}).model == "named/model"
    assert resolve_endpoint("http://nim.example:8001", None, {}).model == ""
