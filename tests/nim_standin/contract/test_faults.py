"""What fails on the way: which faults pass by themselves, and what the error says of those that do not."""

import socket

import pytest
from http_fake import Reset, reply

from contract.adapters import Fault

NOW = "retry-after: 0"  # a client that tries again need not wait
PASSING = {
    "429": reply({"status": 429, "title": "Too Many Requests"}, 429, NOW),
    "429-until-a-date": reply(b"", 429, "retry-after: Wed, 21 Oct 2015 07:28:00 GMT"),
    "503": reply({"error": "model is loading"}, 503, NOW),
    "502": reply(b"<html>bad gateway</html>", 502, NOW),
    "reset-before-the-answer": Reset(),
    "reset-in-the-body": Reset(reply(b'{"rankings": [{"index": 0, "logit": 1.5}, {"ind')[:-20]),
}

# The bodies are those that NVIDIA's services send, each with a message to look for.
REFUSALS = {
    400: ("refused", "query too deep", {"object": "error", "message": "query too deep", "type": "invalid_request"}),
    401: ("unauthorized", "Bearer token unknown", {"status": 401, "title": "No", "detail": "Bearer token unknown"}),
    402: ("payment required", "credits used up", {"status": 402, "title": "credits used up"}),
    403: ("forbidden", "Authorization failed", {"status": 403, "title": "Forbidden", "detail": "Authorization failed"}),
    404: ("not found", "no such function", {"status": 404, "detail": "no such function for account"}),
    410: ("retired", "end of life on 2026", {"title": "Gone", "detail": "reached its end of life on 2026-05-18"}),
    413: ("too many passages", "more than 512", {"object": "error", "message": "more than 512 passages"}),
    422: ("refused", "Extra inputs", {"detail": [{"loc": ["body", "top"], "msg": "Extra inputs are not permitted"}]}),
    429: ("rate limited", "40 a minute", {"status": 429, "title": "40 a minute"}),
    500: ("server error", "CUDA out of memory", {"error": "CUDA out of memory"}),
    503: ("overloaded", "queue is full", {"error": {"message": "the queue is full"}}),
}
CASES = [pytest.param(status, *case, id=str(status)) for status, case in REFUSALS.items()]
TOO_LONG = {"object": "error", "message": "Input length 9000 exceeds maximum allowed token size 8192"}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_fault_that_passes_is_tried_again(rerank, service, fault):
    service.next = [fault]
    assert rerank("q", ["1", "2"]) == [(1, 2.0), (0, 1.0)]
    assert len(service.rankings) == 2


def test_a_fault_of_one_batch_is_tried_again_for_this_batch_only(rerank, service):
    service.next = [PASSING["503"]]
    assert rerank("q", ["1", "2", "3"], batch=1) == [(2, 3.0), (1, 2.0), (0, 1.0)]
    assert len(service.rankings) == 4


def test_the_wait_that_the_service_asks_for_is_kept(rerank, service):
    service.next = [reply({}, 429, "retry-after: 1")]
    rerank("q", ["1"])
    first, second = service.rankings
    assert second.at - first.at >= 1


def test_a_long_wait_is_reported_and_not_waited_for(rerank, service):
    service.script = reply({}, 429, "retry-after: 40")
    with pytest.raises(Fault, match=r"^rate limited(.|\n)*40 s"):
        rerank("q", ["1"])
    assert len(service.rankings) == 1


@pytest.mark.parametrize(("status", "kind", "words", "body"), CASES)
def test_the_class_of_an_error_says_what_went_wrong(rerank, service, status, kind, words, body):
    service.script = reply(body, status, NOW)
    with pytest.raises(Fault, match=f"^{kind}"):
        rerank("q", ["1"])


@pytest.mark.parametrize(("status", "kind", "words", "body"), CASES)
def test_the_words_of_the_service_are_in_the_error(rerank, service, status, kind, words, body):
    service.script = reply(body, status, NOW)
    with pytest.raises(Fault, match=words):
        rerank("q", ["1"])


def test_words_that_are_no_json_are_in_the_error(rerank, service):
    service.script = reply(b"upstream says no", 400, "content-type: text/plain")
    with pytest.raises(Fault, match="upstream says no"):
        rerank("q", ["1"])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_a_refusal_is_not_tried_again(rerank, service, status):
    service.script = reply({"detail": "no"}, status)
    with pytest.raises(Fault):
        rerank("q", ["1"])
    assert len(service.rankings) == 1


@pytest.mark.parametrize("status", [400, 422])
def test_a_passage_that_is_too_long_is_recognised_by_the_words_for_it(rerank, service, status):
    service.script = reply(TOO_LONG, status)
    with pytest.raises(Fault, match=r"^passage too long"):
        rerank("q", ["1"])


def test_a_slow_answer_is_a_timeout(rerank, service):
    service.script = service.hold
    with pytest.raises(Fault, match=r"^timeout"):
        rerank("q", ["1"], timeout=0.1, max_retries=0)


def test_a_connection_that_breaks_each_time_is_reported(rerank, service):
    service.script = Reset()
    with pytest.raises(Fault, match=r"^unreachable"):
        rerank("q", ["1"], max_retries=0)


def test_a_service_that_is_not_there_is_reported(rerank):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    with pytest.raises(Fault, match=r"^unreachable"):
        rerank("q", ["1"], base_url=f"http://127.0.0.1:{free}/v1", max_retries=0)
