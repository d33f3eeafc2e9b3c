import os
import signal

import pytest

from nvrerank_helpers import NVIDIARerank, connect
from nvrerank_helpers.connect import Service
from nvrerank_helpers.connector import CATALOG_VARIABLE, ServiceUnreachable
from nvrerank_helpers.nim_standin import StandIn


@pytest.fixture(scope="module")
def nim():
    with StandIn("--model=my/model") as standin:
        yield standin.base_url


def test_your_own_nim_comes_first(nim, monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-key")
    assert connect(nim) == Service("your own stand-in", nim, "my/model", "base_url was given")


def test_a_nim_is_told_from_a_stand_in(nim, monkeypatch):
    monkeypatch.setattr("nvrerank_helpers.connector.client.RankingClient.model_ids", lambda _: ["my/model"])
    assert connect(nim).service == "your own NIM"


def test_after_connecting_to_your_own_nim_the_reranker_asks_it(nim, monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-key")
    connect(nim)
    with pytest.warns(UserWarning, match="Default model is set as: my/model"):  # the stand-in also has a chat model
        assert NVIDIARerank(top_n=4).base_url == nim


def test_the_catalog_by_name_needs_a_key():
    with pytest.raises(ValueError, match="API key is required"):
        connect("https://ai.api.nvidia.com")


def test_the_reason_says_what_is_really_set(monkeypatch):
    monkeypatch.setenv("NVIDIA_BASE_URL", "https://integrate.api.nvidia.com/v1")
    assert connect().why == "NVIDIA_API_KEY is not set"


@pytest.mark.parametrize("key", ["", "nvapi-key"])
def test_a_service_of_your_own_may_play_the_catalog(nim, monkeypatch, key):
    monkeypatch.setenv("NVIDIA_API_KEY", key)
    monkeypatch.setenv(CATALOG_VARIABLE, nim.removesuffix("/v1"))
    service = connect()
    assert service.address.startswith(nim)
    assert "NVRERANK_CATALOG_URL is set" in service.why


def test_your_own_nim_may_stand_in_the_environment(nim, monkeypatch):
    monkeypatch.setenv("NVIDIA_BASE_URL", nim.removesuffix("/v1"))
    assert connect() == Service("your own stand-in", nim, "my/model", "NVIDIA_BASE_URL is set")


def test_a_nim_that_does_not_answer_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr("nvrerank_helpers.connector.retries.backoff", lambda _: 0.0)
    with pytest.raises(ServiceUnreachable, match="Start the NIM"):
        connect("http://127.0.0.1:9/v1")


def test_a_key_means_the_catalog_and_asks_nothing(monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-key")
    service = connect()
    assert service.service == "NVIDIA's API catalog"
    assert service.address.startswith("https://ai.api.nvidia.com/")


def test_with_neither_the_stand_in_starts_and_plays_the_catalog():
    service = connect()
    assert service.service == "the local stand-in"
    assert NVIDIARerank(top_n=4).postprocess_nodes([], query_str="q") == []
    assert os.environ[CATALOG_VARIABLE] == service.address.removesuffix("/v1")


def test_the_stand_in_starts_once():
    assert connect() == connect()


def test_a_stand_in_that_ended_is_started_again_where_it_was():
    first = connect()
    connect_module = __import__("sys").modules["nvrerank_helpers.connect"]
    standin = connect_module._started._standin
    os.kill(standin.pid, signal.SIGTERM)
    standin._process.wait()
    assert connect() == first
    assert connect_module._started._standin is not standin


def test_a_key_that_is_set_later_ends_the_imitation(monkeypatch):
    connect()
    monkeypatch.setenv("NVIDIA_API_KEY", "nvapi-key")
    assert connect().address.startswith("https://ai.api.nvidia.com/")


def test_a_service_is_one_line_of_text_and_a_table():
    service = Service("your own NIM", "http://<host>/v1", "m", "because")
    assert str(service) == "your own NIM at http://<host>/v1, model m (because)"
    assert "<td>http://&lt;host&gt;/v1</td>" in service._repr_html_()
