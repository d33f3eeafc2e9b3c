"""What is sent, to whom, and which arguments are refused before anything is."""

import traceback
from contextlib import suppress

import pytest
from http_fake import reply

from contract.adapters import MODEL, Fault

KEY = "nvapi-secret-of-the-test"
ADDRESSES = {
    "host-and-port": "{}",
    "without-v1": "http://{}",
    "v1": "http://{}/v1",
    "trailing-slash": "http://{}/v1/",
    "ranking": "http://{}/v1/ranking",
}
NO_ADDRESSES = {"scheme": "ftp://127.0.0.1/v1", "no-host": "http://", "no-port": "http://127.0.0.1:port/v1"}
REPEATS = {
    "refusal": lambda words: reply({"detail": f"{words} is not known here"}, 401),
    "page": lambda words: reply(f"<html>{words}</html>".encode()),
    "cut-in-two": lambda words: reply(b"." * 180 + words.encode(), 400),  # errors show the beginning of a long body
}


@pytest.fixture
def refused(rerank, service):
    """Ask with wrong arguments: they must be refused before anything is sent."""

    def refuses(query="q", texts=("1", "2"), **arguments):
        with pytest.raises(Fault) as caught:
            rerank(query, texts, **arguments)
        assert isinstance(caught.value.__cause__, (ValueError, TypeError))
        assert service.rankings == []

    return refuses


@pytest.mark.parametrize("top_n", [-1, True, 2.0], ids=["negative", "bool", "float"])
def test_a_top_n_that_is_no_count_is_refused(refused, top_n):
    refused(top_n=top_n)


@pytest.mark.parametrize("batch", [0, -1, True], ids=["zero", "negative", "bool"])
def test_a_batch_size_that_is_no_count_is_refused(refused, batch):
    refused(batch=batch)


@pytest.mark.parametrize("query", ["", "  "], ids=["empty", "blank"])
def test_a_query_without_words_is_refused(refused, query):
    refused(query)


def test_a_passage_without_words_comes_last_and_is_not_sent(rerank, service):
    assert [position for position, _ in rerank("q", ["1", "", "2"])] == [2, 0, 1]
    assert [passage["text"] for passage in service.rankings[0].json["passages"]] == ["1", "2"]


def test_an_argument_that_nobody_knows_is_refused(refused):
    refused(no_such_setting=1)


def test_a_truncation_that_nobody_knows_is_refused(refused):
    refused(truncate="MIDDLE")


@pytest.mark.parametrize("address", NO_ADDRESSES.values(), ids=NO_ADDRESSES)
def test_an_address_that_is_none_is_refused(refused, address):
    refused(base_url=address)


@pytest.mark.parametrize("form", ADDRESSES.values(), ids=ADDRESSES)
def test_every_form_of_an_address_reaches_the_ranking_route(rerank, service, form):
    assert rerank("q", ["1", "2"], base_url=form.format(service.address)) == [(1, 2.0), (0, 1.0)]
    assert [request.path for request in service.rankings] == ["/v1/ranking"]


def test_the_address_in_the_environment_is_read_when_constructing(rerank, service, monkeypatch):
    monkeypatch.setenv("NVIDIA_BASE_URL", f"http://{service.address}/v1")
    assert rerank("q", ["1", "2"], base_url=None) == [(1, 2.0), (0, 1.0)]


def test_a_model_is_looked_up_once_at_most_and_sent_by_its_name(rerank, service):
    rerank("q", ["1"])
    assert [request.method for request in service.received] in (["POST"], ["GET", "POST"])
    assert service.rankings[0].json["model"] == MODEL


def test_a_key_of_the_environment_stays_off_hosts_that_are_not_of_nvidia(rerank, service, monkeypatch):
    monkeypatch.setenv("NVIDIA_API_KEY", KEY)
    rerank("q", ["1"])
    assert service.rankings
    assert not any(KEY in str(request.headers) for request in service.received)


def test_without_a_key_nothing_is_sent_in_its_place(rerank, service):
    rerank("q", ["1"])
    assert service.rankings
    assert not any("authorization" in request.headers for request in service.received)


def test_a_key_that_was_passed_for_the_address_is_sent(rerank, service):
    rerank("q", ["1"], api_key=KEY)
    assert service.rankings[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_redirect_does_not_take_the_key_along(rerank, service, elsewhere):
    _redirect(service, elsewhere)
    with suppress(Fault):
        rerank("q", ["1"], api_key=KEY)
    assert KEY in str(service.rankings[0].headers)
    assert not any(KEY in str(request.headers) for request in elsewhere.received)


def test_a_redirect_does_not_take_the_passages_along(rerank, service, elsewhere):
    _redirect(service, elsewhere)
    with pytest.raises(Fault):
        rerank("q", ["1"])
    assert elsewhere.received == []


@pytest.mark.parametrize("key", [KEY, "token-of-a-proxy"], ids=["nvidia", "other"])
@pytest.mark.parametrize("repeat", REPEATS.values(), ids=REPEATS)
def test_a_key_that_the_service_repeats_is_not_in_the_error(rerank, service, repeat, key):
    service.script = repeat(f"Bearer {key}")
    with pytest.raises(Fault) as caught:
        rerank("q", ["1"], api_key=key)
    shown = "".join(traceback.format_exception(caught.value)) + str(vars(caught.value.__cause__))
    assert key[:12] not in shown


def _redirect(service, elsewhere):
    service.script = reply(b"", 307, f"location: {elsewhere.base_url}/ranking")
