import pytest
from llama_index.core.llms import ChatMessage
from llama_index.llms.nvidia import NVIDIA
from llama_index.llms.nvidia.utils import BASE_URL, MODEL_TABLE

from nvrerank_helpers import connect
from nvrerank_helpers.connector import ADDRESS_VARIABLE, CATALOG_VARIABLE, KEY_VARIABLE
from nvrerank_helpers.lessons.answering import HOSTED_MODEL, nvidia_llm
from nvrerank_helpers.nim_standin import StandIn, StandInControl

PROMPT = "Context:\nLists are mutable objects in Python.\n\nQuestion: Are lists mutable?\nAnswer:"
KEY = "nvapi-of-nobody"


@pytest.fixture(scope="module")
def catalog():
    with StandIn("--behaviour=catalog") as standin:
        yield standin.base_url.removesuffix("/v1")


@pytest.fixture(scope="module")
def nim():
    with StandIn() as standin:
        yield standin.base_url


@pytest.fixture
def sent(monkeypatch):
    """Let no request leave, and keep what would have gone where."""
    requests = []
    monkeypatch.setattr("httpx.Client.send", lambda _, request, **__: requests.append(request) or 1 / 0)
    return requests


def test_with_a_key_it_is_nvidias_hosted_chat_model(monkeypatch, sent):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    llm = nvidia_llm()
    assert (llm.model, llm.api_base, sent) == (HOSTED_MODEL, BASE_URL, [])


def test_the_hosted_model_is_one_that_the_class_knows_as_a_chat_model():
    assert MODEL_TABLE[HOSTED_MODEL].model_type == "chat"


def test_another_hosted_model_may_be_asked(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert nvidia_llm("openai/gpt-oss-120b").model == "openai/gpt-oss-120b"


def test_a_key_and_a_nim_of_ones_own_still_mean_the_hosted_chat_model(monkeypatch, nim):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setenv(ADDRESS_VARIABLE, nim)
    assert nvidia_llm().api_base == BASE_URL


def test_the_key_goes_to_nvidia(monkeypatch, sent):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    llm = nvidia_llm()
    llm.max_retries = 0
    with pytest.raises(Exception, match="Connection error"):
        llm.complete("Hello")
    assert {request.url.host for request in sent} == {"integrate.api.nvidia.com"}
    assert {request.headers["authorization"] for request in sent} == {f"Bearer {KEY}"}


def test_a_service_that_plays_the_catalog_answers_and_gets_the_key(monkeypatch, catalog):
    monkeypatch.setenv(CATALOG_VARIABLE, catalog)
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert str(nvidia_llm().complete(PROMPT)) == "“Lists are mutable objects in Python.” [passage 1]"


def test_no_service_on_another_machine_may_play_the_catalog(monkeypatch):
    monkeypatch.setenv(CATALOG_VARIABLE, "http://192.0.2.1:8000")
    with pytest.raises(ValueError, match="only a service on this machine"):
        nvidia_llm()


def test_a_service_that_plays_the_catalog_may_go_without_a_key(monkeypatch, nim):
    monkeypatch.setenv(CATALOG_VARIABLE, nim.removesuffix("/v1"))
    assert nvidia_llm().api_base == nim


def test_beside_a_reranking_nim_the_stand_in_of_this_process_answers(monkeypatch, nim):
    monkeypatch.setenv(ADDRESS_VARIABLE, nim)
    llm = nvidia_llm()
    assert llm.api_base.startswith("http://127.0.0.1:")
    assert llm.api_base != nim


def test_without_anything_the_stand_in_that_connect_started_answers():
    assert nvidia_llm().api_base == connect().address


def test_it_is_asked_as_a_chat_model():
    llm = nvidia_llm()
    control = StandInControl(llm.api_base)
    control.clear()
    llm.complete(PROMPT)
    assert [request.target for request in control.requests()] == ["/v1/chat/completions"]


async def test_it_answers_async_too():
    llm = nvidia_llm()
    answer = await llm.achat([ChatMessage(role="user", content=PROMPT)])
    await llm._get_aclient().close()
    assert "Lists are mutable objects" in answer.message.content


def test_without_a_key_for_it_a_service_gets_none(monkeypatch, nim, sent):
    monkeypatch.setenv(CATALOG_VARIABLE, nim.removesuffix("/v1"))
    with pytest.raises(Exception, match="Connection error"):
        nvidia_llm()
    assert {request.headers["authorization"] for request in sent} == {"Bearer no-key"}


def test_no_model_is_guessed_and_nothing_warns(recwarn):
    nvidia_llm()
    assert [str(warning.message) for warning in recwarn.list] == []


@pytest.mark.parametrize("show", [repr, str])
def test_its_text_tells_what_answers_and_holds_no_key(monkeypatch, show):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    assert show(nvidia_llm()) == f"{HOSTED_MODEL} at https://integrate.api.nvidia.com/v1"


def test_its_text_says_that_the_stand_in_only_quotes():
    assert str(nvidia_llm()).endswith("/v1, which only quotes what it is given")


def test_it_is_llamaindexs_class():
    assert isinstance(nvidia_llm(), NVIDIA)
